"""Training runs in the study's folder, with the CPU time that they took."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

import models.pixelcnn
from models.family import Batch, Family
from pipeline.artifacts import storage
from pipeline.data.shards import DataSet
from pipeline.runs.sampler import Trained, open_run
from pipeline.tracking.journal import Tracker
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit


@dataclass(frozen=True)
class Place:
    """Where the study's runs are kept and told of."""

    root: str
    tracker: Tracker
    tracking: str | None
    threads: int
    precision: Literal["fp32", "bf16"]

    def path(self, *names: str) -> str:
        return storage.join(self.root, *names)


def recipe_of(preset: str, images: int, **changes: Any) -> models.pixelcnn.Config:
    """A preset's recipe of another length, its rate rising over the first fiftieth and falling over the last half."""
    return replace(
        models.pixelcnn.PRESETS[preset], images=images, rate_rise=images // 50, rate_fall=images // 2, **changes
    )


def train(
    place: Place, name: str, recipe: Any, data: str, images: int, family: str = "pixelcnn", **given: Any
) -> tuple[Trained, dict[str, float]]:
    """The run `name` of the study's folder, trained or gone on with, and its `parameters`, `images`, `cpu_seconds`.

    CPU seconds are this process's over all calls that went on with the run, with the ten figures and sheets that are
    made while training. A call that is killed does not count.

    Args:
        images: how many the recipe trains for.
        given: more of the `Job`.
    """
    output, spent = place.path(name), place.path(f"{name}-seconds.json")
    run = Run(
        workers=0,
        threads=place.threads,
        precision=place.precision,
        checkpoint_every=100,
        evaluate_every=max(1, images // recipe.batch // 10),
        evaluate_images=200,
    )
    job = Job(family, recipe, data, output, run=run, tracking=place.tracking, name=name, **given)
    before = storage.read_json(spent)["cpu_seconds"] if storage.exists(spent) else 0.0
    finished = storage.exists(place.path(name, "weights.json"))
    began = time.process_time()
    try:
        fit(replace(job, parent=place.tracker.as_parent))
    finally:
        if not finished:
            storage.publish_json(spent, {"cpu_seconds": round(before + time.process_time() - began, 1)})
    opened = open_run(output)
    net = getattr(opened.family, "net", opened.family)
    return opened, {
        "parameters": sum(p.numel() for p in net.parameters()),
        "images": images,
        "cpu_seconds": storage.read_json(spent)["cpu_seconds"],
    }


def batches(run: Trained, data: str, split: str, count: int, size: int = 50) -> list[Batch]:
    """The first `count` samples of a split, as the run's family reads them."""
    there = DataSet(data, split)
    images, fields = run.images(there), [name for name in run.specs if name in there.fields]
    chosen = range(min(count, len(there)))
    return [images.centred(list(chosen[i : i + size]), fields, run.frame) for i in range(0, len(chosen), size)]


def mean(family: Family, given: list[Batch]) -> dict[str, float]:
    """What the family says of held-out batches, weighted by their sizes."""
    found: dict[str, float] = {}
    total = sum(len(batch["index"]) for batch in given)
    for batch in given:
        for name, value in family.evaluate(batch).items():
            found[name] = found.get(name, 0.0) + value * len(batch["index"]) / total
    return found


def joined(given: list[Batch], field: str) -> Tensor:
    """A field of all batches."""
    return torch.cat([batch[field] for batch in given])
