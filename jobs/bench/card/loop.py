"""The training loop around the steps: its own overhead, and whether its feed keeps up."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import models.step
from jobs.bench.card.works import PERCEPTUAL_VALUE
from jobs.bench.harness import loop
from jobs.bench.harness.turns import wait
from models.family import Batch
from models.group import Group
from pipeline.data import sharding, sources
from pipeline.tracking.journal import Tracker
from pipeline.training.feed import Feed, Sources, to_device
from pipeline.training.job import Job, Run
from pipeline.training.trainer import Trainer

ROUNDS = 3


def measured(device: torch.device, size: int, batch: int, steps: int, crops: int, tiny: bool) -> dict[str, Any]:
    """StEP's generator stage over a data set on disk: images/s of the loop, of the same updates over batches on the
    device, of the feed alone; loop_overhead is 1 - loop / updates, the median of the rounds."""
    recipe = models.step.PRESETS["tiny" if tiny else "paper"]
    recipe = replace(recipe, size=size, batch=batch, generator_images=steps * batch, perceptual_value=PERCEPTUAL_VALUE)
    with tempfile.TemporaryDirectory() as folder:
        options = sources.options("demo", {"size": size, "crops": crops})
        sharding.shard(f"{folder}/data", sources.open_source(options, ""), options, "", workers=0)
        loops, bare, overheads = [], [], []
        for number in range(ROUNDS):
            trainer = _trainer(recipe, f"{folder}/data", f"{folder}/run-{number}", device)
            bare.append(loop.bare(trainer, "generator", _batches(recipe, device), steps))
            loops.append(loop.whole(trainer, "generator"))
            overheads.append(1 - loops[-1] / bare[-1])
        feed = _feed(trainer, steps)
    figures = {"loop": loops, "updates": bare, "feed": [feed]}
    found = {f"{name}_images_per_second": statistics.median(values) for name, values in figures.items()}
    return {"size": size, "batch": batch, **found, "loop_overhead": statistics.median(overheads)}


def _trainer(recipe: Any, data: str, output: str, device: torch.device) -> Trainer:
    run = Run(workers=0, precision="bf16", checkpoint_every=10**6, evaluate_every=10**6, evaluate_images=1)
    job = Job("step", recipe, data, output, run=run)
    return Trainer(job, Group(alone=True), device, Tracker(output, None, job="train", name="bench"))


def _batches(recipe: Any, device: torch.device) -> list[Batch]:
    shape, draws = (recipe.batch, 3, recipe.size, recipe.size), np.random.default_rng(0)

    def picture() -> torch.Tensor:
        return torch.from_numpy(draws.random(shape, np.float32) * 2 - 1).to(device)

    return [{"input": picture(), "target": picture()} for _ in range(4)]


def _feed(trainer: Trainer, steps: int) -> float:
    """Batches prepared and sent, as fast as they come."""
    recipe, streams = trainer.job.recipe, trainer.family.streams("generator")
    pinned = trainer.device.type == "cuda"
    feed = Feed(Sources(trainer.images), streams, "generator", 1, recipe.frame, pinned=pinned)
    began = time.perf_counter()
    for _ in range(steps):
        to_device(feed.draw("pairs"), trainer.device)
    wait(trainer.device)
    taken = time.perf_counter() - began
    feed.close()
    return float(steps * recipe.batch / taken)
