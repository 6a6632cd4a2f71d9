"""The training loop against its own updates."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle

import torch

from jobs.bench.harness.turns import wait
from models.family import Batch
from pipeline.training.trainer import Trainer

WARM = 3
"""Updates that are not counted."""


def bare(trainer: Trainer, stage: str, batches: Sequence[Batch], steps: int) -> float:
    """Pictures a second of `steps` updates over batches that lie on the device."""
    family, device, pool = trainer.family, trainer.device, cycle(batches)
    [batch] = [one.batch for one in family.stages if one.name == stage]
    family.enter(stage)
    began, bf16 = 0.0, trainer.job.run.precision == "bf16"
    for i in range(steps + WARM):
        if i == WARM:
            wait(device)
            began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            family.update(lambda _: next(pool), 0)
    wait(device)
    return steps * batch / (time.perf_counter() - began)


def whole(trainer: Trainer, stage: str) -> float:
    """Pictures a second of the real loop: reading, decoding, logging and its last checkpoint included."""
    [chosen] = [one for one in trainer.family.stages if one.name == stage]
    began = time.perf_counter()
    trainer.train(chosen, None)
    wait(trainer.device)
    return chosen.images / (time.perf_counter() - began)
