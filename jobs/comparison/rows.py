"""What jobs.compare compares: families with their presets, changed and stretched to one budget."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

import models
from jobs import train
from models.family import Recipe, Stage
from models.group import Group
from pipeline.evaluation import cost
from pipeline.runs import checkpoint

TOLERANCE = 0.1
"""Share by which a run may be longer or shorter than the budget."""
RESERVED = ("report", "mlartifacts", "mlflow.db", "segmenter.pt", "segmenter.json", "metrics.jsonl", "run.json")
"""What lies beside the rows' folders."""
PATTERN = r"(?:(?P<name>[\w.-]+)=)?(?P<family>\w+):(?P<preset>[\w.-]+)(?::(?P<changes>.+))?"


@dataclass(frozen=True)
class Entry:
    """One row of the comparison."""

    name: str
    """What it is called: its folder, its row."""
    family: str
    recipe: Recipe

    @property
    def labels(self) -> bool:
        """Whether its inputs are label maps."""
        spec = models.load(self.family).fields(self.recipe).get("input")
        return spec is not None and spec.kind == "labels"

    @property
    def length(self) -> cost.Length:
        """Of the recipe as it is."""
        return cost.length(models.load(self.family).build(self.recipe, Group(alone=True)))

    @property
    def stages(self) -> list[Stage]:
        """Of the recipe as it is."""
        found: list[Stage] = models.load(self.family).build(self.recipe, Group(alone=True)).stages
        return found

    def of(self, wanted: int, unit: str) -> Entry:
        """Stretched to about so many `updates` or `images`.

        Raises:
            ValueError: its generator is not trained at all.
        """
        if not (length := getattr(self.length, unit)):
            raise ValueError(f"--families {self.name}: no stage of it trains the generator; give one a length")
        return replace(self, recipe=self.recipe.stretched(wanted / length))

    def within(self, budget: int, unit: str) -> Entry:
        """As `of`.

        Raises:
            ValueError: it comes to another length, as a schedule has whole epochs of at least one update.
        """
        found = self.of(budget, unit)
        if abs((comes_to := getattr(found.length, unit)) - budget) > TOLERANCE * budget:
            raise ValueError(f"--{unit} {budget}: the schedule of {self.name} comes to {comes_to} {unit}; give more")
        return found

    def seeded(self, seed: int) -> Entry:
        return replace(self, recipe=replace(self.recipe, seed=seed))


def entry(text: str, size: int) -> Entry:
    """`[NAME=]FAMILY:PRESET[:FIELD=VALUE,...]`; values are JSON, or plain words. `size`: of the pictures.

    Raises:
        ValueError: not of that form, no such family, preset or field, or a recipe that does not fit.
    """
    found = re.fullmatch(PATTERN, text)
    if found is None:
        raise ValueError(f"--families {text}: wanted [NAME=]FAMILY:PRESET[:FIELD=VALUE,...]")
    module, preset = models.load(found["family"]), train.preset(found["family"], found["preset"])
    value: dict[str, Any] = {**checkpoint.recipe_json(preset), "size": size}
    for change in filter(None, re.split(r",(?![^\[]*\])", found["changes"] or "")):
        name, _, given = change.partition("=")
        if name not in value:
            raise ValueError(f"--families {text}: {found['family']} has no field {name!r} in its recipe")
        if name in ("size", "seed") and given != str(value[name]):
            raise ValueError(f"--families {text}: all rows have the same; give --{name if name == 'size' else 'seeds'}")
        try:
            value[name] = json.loads(given)
        except json.JSONDecodeError:
            value[name] = given
    try:
        recipe = checkpoint.recipe_from(module.Config, value)
        if recipe.aspect != 1:
            raise ValueError("its pictures are not square; add aspect=1")
        module.check(recipe, None)
    except ValueError as error:
        raise ValueError(f"--families {text}: {error}") from error
    name = found["name"] or found["family"]
    if name in RESERVED or name.startswith("."):
        raise ValueError(f"--families {text}: {name} is no name for a row, its folder has another use")
    return Entry(name, found["family"], recipe)


def entries(texts: tuple[str, ...], size: int) -> list[Entry]:
    """All of them. Raises ValueError, as `entry`; or two of one name."""
    found = [entry(text, size) for text in texts]
    names = [one.name for one in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"--families: {twice[0]} is there twice; write NAME={twice[0]}:... for one of them")
    return found
