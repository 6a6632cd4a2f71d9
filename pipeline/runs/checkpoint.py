"""Checkpoints: everything that a run needs to resume, with the recipe beside the weights.

    FOLDER/recipe.json            family and recipe; a resumed run must match it
    FOLDER/checkpoints/N.pt       state after N steps of the whole run, then N.json (its sha256, stage, images)
    FOLDER/stages/NAME.pt, .json  the same at the end of each stage; kept
    FOLDER/best.json              stage -> the checkpoint with the lowest held-out figure so far; kept too

Weights are serialised to memory first: torch.save's bytes depend on the name of the file it writes to.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

import models
from models.family import Facts, Family, Recipe
from models.group import Group
from pipeline.artifacts import storage

State = dict[str, Any]
R = TypeVar("R")


def to_bytes(state: State) -> bytes:
    sink = io.BytesIO()
    torch.save(state, sink)
    return sink.getvalue()


def publish(path: str, state: State, facts: dict[str, Any]) -> None:
    """Write `path`.pt, then `path`.json with `facts` and the sha256: the .json makes the checkpoint count. What is
    there already, undamaged, is left: a run that goes on from its last checkpoint may reach a stage's end again."""
    data, file, marker = to_bytes(state), path + ".pt", path + ".json"
    told = {**facts, "sha256": hashlib.sha256(data).hexdigest()}
    there = storage.exists(marker) and storage.exists(file) and storage.read_json(marker) == told
    if there and storage.sha256_file(file) == told["sha256"]:
        return
    storage.publish(file, data)
    storage.publish_json(marker, told)


def load(path: str) -> State:
    """The state of a run in `path`, as `read`.

    Raises:
        ValueError: damaged, or not a checkpoint of this project.
        FileNotFoundError: there is none.
    """
    state = read(path)
    if "family" not in state:
        raise ValueError(f"{path} is no checkpoint: it has no 'family' entry")
    return state


def read(path: str) -> State:
    """What `publish` wrote to `path` (a .pt file), on the CPU, checked against the sha256 beside it where there is one.

    Raises:
        ValueError: damaged, or no dictionary of weights.
        FileNotFoundError: there is none.
    """
    data = storage.read(path)
    marker = path.removesuffix(".pt") + ".json"
    if storage.exists(marker) and storage.read_json(marker)["sha256"] != hashlib.sha256(data).hexdigest():
        raise ValueError(f"{path} does not match the sha256 in {marker}: it was damaged; remove both and resume again")
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged zip or pickle raises a dozen different types
        raise ValueError(f"{path} is no file of torch.save that holds tensors alone") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} is no checkpoint: it holds no dictionary")
    return state


def save(
    folder: str, step: int, state: State, facts: dict[str, Any], keep_last: int, figure: tuple[str, float] | None = None
) -> None:
    """Publish the checkpoint of `step`, then remove all but the last `keep_last` and each stage's best. `figure`: name
    and value of the held-out figure that makes this one its stage's best."""
    publish(_path(folder, step), state, {**facts, "step": step})
    kept = best(folder)
    if figure is not None:
        kept[facts["stage"]] = {"step": step, "figure": figure[0], "value": figure[1]}
        storage.publish_json(storage.join(folder, "best.json"), kept)
    for old in steps(folder)[:-keep_last]:
        if old not in {there["step"] for there in kept.values()}:
            storage.remove(_path(folder, old) + ".json")  # first the marker: a half-removed checkpoint does not count
            storage.remove(_path(folder, old) + ".pt")


def _path(folder: str, step: int) -> str:
    return storage.join(folder, "checkpoints", f"{step:09d}")


def steps(folder: str) -> list[int]:
    """Steps of the complete checkpoints, ascending."""
    there = storage.names(storage.join(folder, "checkpoints"))
    return sorted(int(n[:-5]) for n in there if n.endswith(".json") and n[:-5].isdigit() and n[:-5] + ".pt" in there)


def latest(folder: str) -> State | None:
    """The newest complete checkpoint, or None for a run that has not saved any."""
    there = steps(folder)
    return load(_path(folder, there[-1]) + ".pt") if there else None


def latest_path(folder: str) -> str | None:
    there = steps(folder)
    return _path(folder, there[-1]) + ".pt" if there else None


def best(folder: str) -> dict[str, Any]:
    """Stage -> {"step", "figure", "value"} of its best checkpoint."""
    path = storage.join(folder, "best.json")
    there: dict[str, Any] = storage.read_json(path) if storage.exists(path) else {}
    return there


def stage_path(folder: str, stage: str) -> str:
    """Where the state at the end of `stage` is, without the suffix."""
    return storage.join(folder, "stages", stage)


def recipe_json(recipe: Any) -> dict[str, Any]:
    """A recipe (any frozen dataclass) as JSON values."""
    value: dict[str, Any] = TypeAdapter(type(recipe)).dump_python(recipe, mode="json")
    return value


def recipe_from(kind: type[R], value: dict[str, Any]) -> R:
    """The inverse of `recipe_json`.

    Raises:
        ValueError: a field is missing, unknown or of the wrong type.
    """
    try:
        recipe = TypeAdapter(kind).validate_json(json.dumps(value))
    except ValidationError as error:
        raise ValueError(f"not a recipe of {kind.__module__}: {error}") from error
    # Unknown fields are dropped silently on validation: seen by dumping again.
    unknown = value.keys() - recipe_json(recipe).keys()
    if unknown:
        raise ValueError(f"not a recipe of {kind.__module__}: unknown fields {', '.join(sorted(unknown))}")
    return recipe


def claim(folder: str, family: str, recipe: Recipe, inputs: dict[str, Any], facts: Facts) -> None:
    """Write recipe.json for a new run; for a resumed one check that it asks for the same.

    The recipe's lengths (`recipe.LENGTHS`) may grow. A run that has not saved anything yet may become another.
    `facts` are kept for those who load the run without its data.

    Raises:
        ValueError: another family, recipe or data; the message names each difference.
    """
    path = storage.join(folder, "recipe.json")
    wanted: dict[str, Any] = {"family": family, "recipe": recipe_json(recipe), "inputs": inputs}
    if storage.exists(path):
        there = storage.read_json(path)
        if there["family"] == family:  # fields that were added since then had their defaults
            defaults = recipe_json(type(recipe)())
            there["recipe"] = {**{k: v for k, v in defaults.items() if k not in there["recipe"]}, **there["recipe"]}
        other = there["family"] != family  # then their recipes have nothing in common that is worth naming
        differences = [f"family is {there['family']} there, {family} wanted"] if other else []
        for part in () if other else ("recipe", "inputs"):
            for key in sorted(there[part].keys() | wanted[part].keys()):
                a, b = there[part].get(key), wanted[part].get(key)
                grown = part == "recipe" and key in recipe.LENGTHS and a is not None and b is not None and b >= a
                if a != b and not grown:
                    shorter = " (a length may only grow)" if key in recipe.LENGTHS and part == "recipe" else ""
                    differences.append(f"{key} is {a!r} there, {b!r} wanted{shorter}")
        if differences and (steps(folder) or storage.names(storage.join(folder, "stages"))):
            raise ValueError(
                f"{folder} holds another run: {'; '.join(differences)}. Choose another --output to start a new one"
            )
    storage.publish_json(path, {**wanted, "facts": asdict(facts)})


def identity(folder: str, stage: str = "") -> str:
    """The sha256 of the run's weights: at the end of `stage`, or the final ones. They must be there."""
    path = stage_path(folder, stage) if stage else storage.join(folder, "weights")
    return str(storage.read_json(path + ".json")["sha256"])


def restore(folder: str, stage: str = "") -> tuple[Family, dict[str, Any]]:
    """A trained family, without its perceptual network, and the facts of its recipe.json.

    `stage`: as it was at the end of that stage; `best`: the best checkpoint of the last stage that has one; empty: the
    final weights.

    Raises:
        ValueError: the run has not come so far.
    """
    if not storage.exists(storage.join(folder, "recipe.json")):
        raise ValueError(f"--run {folder}: no run of jobs.train (it has no recipe.json)")
    if stage == "best":
        kept = [one["step"] for one in best(folder).values()]
        if not kept:
            raise ValueError(f"{folder} has no best checkpoint: no held-out figure was taken (--held-out)")
        return revive(folder, _path(folder, max(kept)) + ".pt")
    path = stage_path(folder, stage) if stage else storage.join(folder, "weights")
    if not storage.exists(path + ".json"):
        there = [n[:-5] for n in storage.names(storage.join(folder, "stages")) if n.endswith(".json")]
        raise ValueError(
            f"{folder} has no {stage or 'final'} weights yet (stages finished: {', '.join(there) or 'none'}): "
            "run jobs.train to its end"
        )
    return revive(folder, path + ".pt")


def revive(folder: str, path: str, perceptual: nn.Module | None = None) -> tuple[Family, dict[str, Any]]:
    """The family of the run in `folder` with the weights of one of its checkpoints, and the facts of recipe.json."""
    facts: dict[str, Any] = storage.read_json(storage.join(folder, "recipe.json"))
    module = models.load(facts["family"])
    known = Facts(**facts.get("facts", {}))  # a run of an earlier version has none
    family: Family = module.build(recipe_from(module.Config, facts["recipe"]), Group(alone=True), perceptual, known)
    try:
        family.load_state_dict(load(path)["family"])
    except RuntimeError as error:
        raise ValueError(f"{path}: not weights of the run in {folder} ({str(error).splitlines()[0]})") from error
    return family.eval(), facts


def note(facts: dict[str, object]) -> str:
    """What a run's pictures must say of its perceptual weights."""
    inputs = facts["inputs"]
    assert isinstance(inputs, dict)
    return "perceptual network with RANDOM weights" if str(inputs["weights"]).startswith("random") else ""
