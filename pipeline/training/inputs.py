"""What a training job reads: the identity of its inputs, its artifacts, its perceptual network; builds the family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import models
from models.common.vgg import VGG
from models.family import Facts, Family, PerceptualRecipe, Table
from models.group import Group
from pipeline.artifacts import storage
from pipeline.data.shards import DataSet, require_fields
from pipeline.neighbours import lists
from pipeline.style.weights import of_recipe
from pipeline.training import matches, rarity
from pipeline.training.job import Job
from pipeline.training.triplets import Triplets


@dataclass(frozen=True)
class Given:
    """An artifact of the training set, loaded."""

    content: str
    """Hash of its bytes: part of the run's identity."""
    table: Table | None = None
    """For `Family.take`."""
    triplets: Triplets | None = None
    """For streams of triplets."""


def _neighbours(job: Job, path: str, data: DataSet) -> Given:
    near = lists.load(path)
    if near.card["inputs"]["dataset"] != data.fingerprint:
        raise ValueError(
            f"--neighbours {path} is of the data set {near.card['inputs']['dataset'][:12]}, "
            f"but --data {job.data} is {data.fingerprint[:12]}: run jobs.neighbours for it"
        )
    return Given(near.card["content"], triplets=Triplets(near))


def _rarity(job: Job, path: str, data: DataSet) -> Given:
    table, card = rarity.load(path, data)
    return Given(card["content"], table)


def _matches(job: Job, path: str, data: DataSet) -> Given:
    table, card = matches.load(path, data, job.recipe)
    started = {stage: storage.sha256_file(at) for stage, at in job.start.items()}
    if started != {"crn": card["inputs"]["checkpoint"]}:
        raise ValueError(
            f"--matches {path} are samples of the checkpoint with sha256 "
            f"{card['inputs']['checkpoint'][:12]}: begin from it (--start crn CHECKPOINT)"
        )
    return Given(card["content"], table)


LOADERS: dict[str, Callable[[Job, str, DataSet], Given]] = {
    "neighbours": _neighbours,
    "rarity": _rarity,
    "matches": _matches,
}
"""Artifact -> how it is loaded. What a family uses is the family's to say (`artifacts(recipe)`)."""


def given(job: Job, data: DataSet) -> dict[str, Given]:
    """The artifacts that the job names.

    Raises:
        ValueError: one that the family has no use for, or that is of other data.
    """
    used = models.load(job.family).artifacts(job.recipe)
    for name in job.artifacts:
        if name not in used:
            there = ", ".join(f"--{n} ({spec.purpose})" for n, spec in used.items()) or "none"
            raise ValueError(f"--{name}: family {job.family} has no use for it; artifacts that it uses: {there}")
    return {name: LOADERS[name](job, path, data) for name, path in job.artifacts.items()}


def inputs(job: Job) -> dict[str, Any]:
    """What the run is made of, by content: a resumed run must be given the same.

    Raises:
        ValueError: what does not belong together; the message names the option.
    """
    data = DataSet(job.data, job.split)
    family = models.load(job.family)
    require_fields(data, family.fields(job.recipe))
    for name, spec in family.artifacts(job.recipe).items():
        missing = [stage for stage in spec.needed_by if stage not in job.start]
        if missing and name not in job.artifacts:
            raise ValueError(f"stage {missing[0]!r} needs {spec.purpose}: give --{name}")
    made: dict[str, Any] = {"dataset": data.fingerprint, "split": job.split, "weights": perceptual(job)[1]}
    if job.start:
        made["start"] = {s: storage.sha256_file(path) for s, path in sorted(job.start.items())}
    return made | {name: one.content for name, one in given(job, data).items()}


def perceptual(job: Job) -> tuple[VGG | None, str, str]:
    """The recipe's perceptual network, its weights' identity (empty: the family has none), and their name."""
    if not isinstance(job.recipe, PerceptualRecipe) or not job.recipe.perceptual_layers:
        return None, "", ""
    net, origin = of_recipe(job.weights, job.recipe)
    return net, origin.identity, str(origin)


def build(job: Job, group: Group, facts: Facts) -> Family:
    """The family of a job, with its perceptual network where it has one."""
    family: Family = models.load(job.family).build(job.recipe, group, perceptual(job)[0], facts)
    return family
