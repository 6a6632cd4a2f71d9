"""What a training job reads: the identity of its inputs, its artifacts, its perceptual network; builds the family."""

from __future__ import annotations

from typing import Any

import models
from models.common.vgg import VGG
from models.family import Family, Group, PerceptualRecipe, Table
from pipeline.artifacts import storage
from pipeline.data.shards import DataSet, require_inputs
from pipeline.neighbours import lists
from pipeline.style.weights import of_recipe
from pipeline.training import matches, rarity
from pipeline.training.job import Job


def inputs(job: Job) -> dict[str, Any]:
    """What the run is made of, by content: a resumed run must be given the same."""
    data = DataSet(job.data, job.split)
    require_inputs(data, models.load(job.family).input_kind(job.recipe))
    made: dict[str, Any] = {"dataset": data.fingerprint, "split": job.split, "weights": perceptual(job)[1]}
    if job.neighbours:
        card = lists.load(job.neighbours).card
        if card["inputs"]["dataset"] != data.fingerprint:
            raise ValueError(
                f"--neighbours {job.neighbours} is of the data set {card['inputs']['dataset'][:12]}, "
                f"but --data {job.data} is {data.fingerprint[:12]}: run jobs.neighbours for it"
            )
        made["neighbours"] = card["content"]
    if job.start:
        made["start"] = {s: storage.sha256_file(path) for s, path in sorted(job.start.items())}
    for name, (_, card) in given(job, data).items():
        made[name] = card["content"]
        if name == "matches" and made.get("start") != {"crn": card["inputs"]["checkpoint"]}:
            raise ValueError(
                f"--matches {job.matches} are samples of the checkpoint with sha256 "
                f"{card['inputs']['checkpoint'][:12]}: begin from it (--start crn CHECKPOINT)"
            )
    return made


def given(job: Job, data: DataSet) -> dict[str, tuple[Table, dict[str, Any]]]:
    """The artifacts of the training set that the job names, with their cards."""
    found = {}
    if job.rarity:
        found["rarity"] = rarity.load(job.rarity, data)
    if job.matches:
        found["matches"] = matches.load(job.matches, data, job.recipe)
    return found


def perceptual(job: Job) -> tuple[VGG | None, str, str]:
    """The recipe's perceptual network, its weights' identity (empty: the family has none), and their name."""
    if not isinstance(job.recipe, PerceptualRecipe) or not job.recipe.perceptual_layers:
        return None, "", ""
    net, origin = of_recipe(job.weights, job.recipe)
    return net, origin.identity, str(origin)


def build(job: Job, group: Group) -> Family:
    """The family of a job, with its perceptual network where it has one."""
    family: Family = models.load(job.family).build(job.recipe, group, perceptual(job)[0])
    return family
