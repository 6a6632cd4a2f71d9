"""Runs of the GAN family on MNIST, trained once and found again in the study's folder."""

from __future__ import annotations

import time

import models.gans
from jobs import shard
from pipeline.artifacts import storage
from pipeline.data.images import Images
from pipeline.data.shards import DataSet
from pipeline.runs import checkpoint
from pipeline.tracking.journal import Tracker
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit


def sharded(source: str, root: str, labelled: int, seed: int) -> str:
    """MNIST (an .npz or a folder of idx files) as a data set below `root`, with `labelled` labels of each class (0:
    all), a choice by `seed`."""
    path = storage.join(root, f"data-{labelled}-{seed}" if labelled else "data-all")
    option = {"labelled": str(labelled), "seed": str(seed if labelled else 0)}
    shard.run(shard.Config(source=f"idx:{source}", option=option, output=path, workers=0))
    return path


def trained(
    name: str, recipe: models.gans.Config, data: str, root: str, tracker: Tracker, tracking: str | None
) -> tuple[models.gans.GANs, float]:
    """The trained family, and the seconds that this call took for it. Tracked below the study's own run."""
    output = storage.join(root, name)
    watched = Run(workers=0, threads=1, checkpoint_every=1000, evaluate_every=500, log_every=50, evaluate_images=500)
    began = time.perf_counter()
    fit(Job("gans", recipe, data, output, run=watched, tracking=tracking, parent=tracker.as_parent, name=name))
    family = checkpoint.restore(output)[0]
    assert isinstance(family, models.gans.GANs)
    return family, time.perf_counter() - began


def error_of(family: models.gans.GANs, data: str) -> float:
    """Share of the 10,000 test digits whose class is read wrongly: of the real classes alone, without a fake one."""
    test = Images(DataSet(data, "test"), specs=models.gans.fields(family.recipe))
    frame, count = family.recipe.frame, len(test.data)
    parts = (range(i, min(i + 500, count)) for i in range(0, count, 500))
    error: float = family.judge(test.centred(part, ["target", "class"], frame) for part in parts)["error"]
    return error
