"""The likelihood of every sample of a data set by a trained run, shard by shard: a part of an artifact each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from models.abilities import GivesLikelihood, require
from models.family import FieldSpec
from pipeline.artifacts import artifact
from pipeline.data.images import Images
from pipeline.data.shards import DataSet, require_fields
from pipeline.runs.sampler import Trained, open_run

VERSION = 1
"""Of the algorithm; part of the request."""


def fields_read(run: Trained) -> dict[str, FieldSpec]:
    """What `log_prob` of a run's family looks at: the target, and what the family reads."""
    return {name: run.specs[name] for name in dict.fromkeys(("target", *run.family.reads))}


def shard_scorer(
    path: str, stage: str, root: str, split: str, folder: str, batch: int
) -> Callable[[int], dict[str, Any]]:
    """For `pool.each`: scores the samples of one shard, `batch` at once, and publishes them as a part: `key`, `label`,
    `log_prob` (nats), `bits_per_dimension`.

    Raises:
        ValueError: a family without a likelihood, or data that lack what it reads.
    """
    run, data = open_run(path, stage), DataSet(root, split)
    family = require(run.family, GivesLikelihood, "jobs.likelihood")
    wanted = fields_read(run)
    require_fields(data, wanted)
    images = Images(data, 0, run.specs, run.facts, run.family.recipe.fit)

    @torch.no_grad()
    def work(shard: int) -> dict[str, Any]:
        rows = list(data.shard_rows(shard))
        parts = [np.zeros(0)]
        for start in range(0, len(rows), batch):
            some = images.centred(rows[start : start + batch], list(wanted), run.frame)
            parts.append(family.log_prob(some).double().cpu().numpy())
        nats = np.concatenate(parts)
        if not np.isfinite(nats).all():
            worst = data.keys[rows[int(np.flatnonzero(~np.isfinite(nats))[0])]]
            raise ValueError(f"sample {worst}: its likelihood is not a finite number")
        table = {
            "key": pa.array([data.keys[i] for i in rows], pa.string()),
            "label": pa.array([data.labels[i] for i in rows], pa.string()),
            "log_prob": pa.array(nats),
            "bits_per_dimension": pa.array(-nats / (family.dimensions() * math.log(2))),
        }
        artifact.publish_part(folder, shard, pa.table(table))
        return {"part": shard, "images": len(rows)}

    return work


def finish(folder: str, data: DataSet) -> artifact.Card:
    """Write the card: means over all samples, and the ten least and most likely ones."""
    whole = pa.concat_tables([artifact.read_part(folder, shard) for shard in data.shards])
    bits, nats = (whole[name].to_numpy() for name in ("bits_per_dimension", "log_prob"))
    order, keys = np.argsort(-bits, kind="stable"), whole["key"].to_pylist()
    notes: Mapping[str, Any] = {
        "bits_per_dimension": float(bits.mean()),
        "nats": float(-nats.mean()),
        "deviation_bits_per_dimension": float(bits.std()),
        "least_likely": [keys[i] for i in order[:10]],
        "most_likely": [keys[i] for i in order[::-1][:10]],
    }
    return artifact.finish(folder, data.shards, dict(notes))
