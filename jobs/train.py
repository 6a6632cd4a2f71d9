"""Train a family on shards: all its stages, resumable at any step.

    python -m jobs.train step facades --data DIR --neighbours DIR --output DIR --batch 8 --run.workers 2

The first two words are the family and one of its presets. Every field of the recipe is an option. After an interruption
the same command resumes. Another recipe in the same --output is refused.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any

import models
from jobs import command, groups
from pipeline.artifacts import storage
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit


def preset(family: str, name: str) -> Any:
    """The preset's recipe. Raises ValueError naming those there are."""
    presets = models.load(family).PRESETS
    if name not in presets:
        raise ValueError(f"{family} has no preset {name!r}: choose one of {', '.join(presets)}")
    return presets[name]


def leading_words(description: str | None) -> tuple[str, Any, list[str]]:
    """Family, preset's recipe, the other arguments of the command line; exits with the help where they are missing."""
    words = sys.argv[1:]
    if len(words) < 2 or words[0].startswith("-") or words[1].startswith("-"):
        print(description)
        for name in models.names():
            print(f"  {name}: presets {', '.join(models.load(name).PRESETS)}")
        raise SystemExit(0 if words[:1] in (["-h"], ["--help"]) else 2)
    try:
        return words[0], preset(words[0], words[1]), words[2:]
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def command_line(options: type, recipe: Any) -> Any:
    """A dataclass of `options`' fields and, at the top level of the command line, the recipe's with its values, in the
    help a group for each stage (`groups.grouped`)."""
    recipe_field = ("recipe", groups.grouped(recipe))
    return make_dataclass(options.__name__, [recipe_field], bases=(options,), kw_only=True, frozen=True)


ARTIFACTS = ("neighbours", "rarity", "matches")
"""Options that name an artifact of the training set."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Where a training job reads and writes."""

    data: str
    """Data set folder (of jobs.shard)."""
    output: str
    """Folder of the run: checkpoints, pictures, metrics.jsonl, weights.pt."""
    neighbours: str = ""
    """Neighbour artifact (of jobs.neighbours), for stages that train on triplets."""
    rarity: str = ""
    """Rarity artifact (of jobs.rarity), for families that re-balance by it."""
    matches: str = ""
    """Matches (of jobs.match), for a family that otherwise searches for them itself."""
    weights: str = "random"
    """VGG checkpoint of the perceptual loss: path, URL, `torchvision` (its own URL), or `random` (seeded, to try things
    out)."""
    split: str = "train"
    """Split that is trained on."""
    held_out: str = "val"
    """Split of the figures and sheets that are made while training."""
    start: dict[str, str] = field(default_factory=dict)
    """STAGE CHECKPOINT: do not train this stage, but take its weights from stages/STAGE.pt of another run."""
    tracking: str | None = None
    """MLflow tracking URI: sqlite:////path/mlflow.db or http://host:port; none: JSON lines only."""
    name: str = "train"
    """Name of the run in the tracker."""
    run: Run = field(default_factory=Run)


def job(family: str, config: Any, parent: str | None = None) -> Job:
    """The loop's job for a parsed command line."""
    given = {f.name: getattr(config, f.name) for f in fields(Config)}
    given["output"] = storage.output(given["output"])
    for option in ("data", *ARTIFACTS):
        given[option] = storage.absolute(given[option], f"--{option}") if given[option] else ""
    artifacts = {name: given.pop(name) for name in ARTIFACTS}
    if given["tracking"] == "off":  # as jobs.run has it
        given["tracking"] = None
    given["artifacts"] = {name: folder for name, folder in artifacts.items() if folder}
    return Job(family=family, recipe=config.recipe, parent=parent, **given)


if __name__ == "__main__":
    family, recipe, rest = leading_words(__doc__)
    command.main(command_line(Config, recipe), lambda config: print(fit(job(family, config))), __doc__, rest)
