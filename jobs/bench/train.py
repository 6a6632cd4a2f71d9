"""The loop's own overhead, or (--family) a translation family's step beside the bare sum of its passes.

Without --family: images/s of a training run's loop against a bare loop over the same `update` in memory; StEP's encoder
stage at 64 px. With it: CPU seconds of `update` of the first stage against its forward and backward passes, its loss
network's and its optimisers' steps over the same tensors; for pix2pix at the paper's size also against a plain
implementation. All sides run in this process, in turns, on the same threads; the median of the rounds' ratios counts.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

import models.step
from jobs import shard
from jobs.bench.harness import loop
from jobs.bench.updates.measure import family_step
from jobs.bench.updates.passes import PASSES
from jobs.train import preset
from models.family import Batch
from models.group import Group
from pipeline.data.shards import DataSet
from pipeline.tracking.journal import Tracker
from pipeline.training import memory
from pipeline.training.job import Job, Run
from pipeline.training.trainer import Trainer
from pipeline.training.triplets import Triplets


@dataclass(frozen=True)
class Config:
    """Sizes of the measurement."""

    family: str = ""
    """Whose step is measured; empty: the loop."""
    preset: str = "paper"
    """--family: its recipe."""
    size: int = 0
    """--family: height of the pictures; 0: the preset's."""
    batch: tuple[int, ...] = ()
    """--family: batch sizes; none: the preset's, and for pix2pix 1 and 4."""
    threads: int = 1
    """--family: of this process."""
    steps: int = 250
    """Steps of each turn."""
    rounds: int = 5
    """Turns of each side."""
    width: int = 64
    """Encoder width (paper: 64)."""
    crops: int = 20
    """Demo crops per photograph."""


def run(config: Config) -> dict[str, Any]:
    """Returns loop_overhead: 1 - (loop's images/s / bare images/s); with --family update_ratio_NAME and more for each
    batch size."""
    return families_step(config) if config.family else loops_share(config)


def families_step(config: Config) -> dict[str, Any]:
    """Figures by batch size."""
    if config.family not in PASSES:
        raise ValueError(f"--family {config.family}: choose one of {', '.join(PASSES)}")
    torch.set_num_threads(config.threads)
    memory.keep_freed()  # as in training
    recipe = preset(config.family, config.preset)
    if config.size:
        recipe = replace(recipe, size=config.size)
    found: dict[str, Any] = {"family": config.family, "preset": config.preset, "threads": torch.get_num_threads()}
    print(", ".join(f"{name} {value}" for name, value in found.items()))
    for batch in config.batch or ((1, 4) if config.family == "pix2pix" else (recipe.batch,)):
        one = family_step(config.family, replace(recipe, batch=batch), config.rounds)
        print(f"batch {batch}: {one}", flush=True)
        found[f"batch_{batch}"] = one
    return found


def loops_share(config: Config) -> dict[str, float]:
    """The loop around the step."""
    with tempfile.TemporaryDirectory() as folder:
        shard.run(shard.Config(source="demo", output=f"{folder}/data", crops=config.crops, workers=2))
        ours, bare = [], []
        for number in range(config.rounds):
            trainer = _trainer(config, f"{folder}/data", f"{folder}/run{number}")
            bare.append(loop.bare(trainer, "encoder", _batches(trainer.job.recipe), config.steps))
            ours.append(loop.whole(trainer, "encoder"))
            print(f"round {number}: loop {ours[-1]:.1f} images/s, bare {bare[-1]:.1f}")
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    return {"loop_overhead": 1 - statistics.median(ratios), "best": 1 - max(ratios), "worst": 1 - min(ratios)}


def _trainer(config: Config, data: str, output: str) -> Trainer:
    recipe = replace(
        models.step.PRESETS["demo"],
        encoder_width=config.width,
        encoder_images=config.steps * models.step.PRESETS["demo"].encoder_batch,
    )
    job = Job("step", recipe, data, output, run=Run(workers=0, checkpoint_every=500))
    tracker = Tracker(output, None, job="train", name="bench")
    trainer = Trainer(job, Group(), torch.device("cpu"), tracker)
    _lend_triplets(trainer, data)
    return trainer


def _lend_triplets(trainer: Trainer, data: str) -> None:
    """Random lists: what they hold does not change the time a step takes."""
    n = len(DataSet(data))
    rng = np.random.default_rng(0)
    lists = {"near": rng.integers(0, n, (n, 5)), "far": rng.integers(0, n, (n, 13))}
    trainer.triplets = Triplets(_Lists(**lists))  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Lists:
    near: Any
    far: Any


def _batches(recipe: models.step.Config) -> list[Batch]:
    shape = recipe.encoder_batch, 3, recipe.size, recipe.size
    return [{k: torch.rand(shape) * 2 - 1 for k in ("anchor", "positive", "negative")} for _ in range(8)]
