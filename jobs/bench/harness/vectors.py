"""Made-up descriptors for measurements of the search."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.artifacts import artifact
from pipeline.style import descriptors
from pipeline.style.codec import COSINE, Codec, codec_for
from pipeline.style.vectors import group_rows, groups, schema

PART = 50_000
"""Vectors of a part, a multiple of CROPS."""
CROPS = 20
"""Near-duplicates of a source."""
REST = 0.03
"""Share of the variance that the directions leave out."""


def sketches(folder: str, n: int, size: int, d: int, seed: int) -> None:
    """A descriptor artifact of `n` codes of `size` bytes, at two directions a byte; size 0: float32 vectors of length
    `d`."""
    artifact.begin(
        folder,
        "descriptors",
        descriptors.VERSION,
        {"dataset": "synthetic", "split": "train", "field": "target", "weights": "none"},
        {"n": n, "bytes": size, "d": d, "seed": seed},
    )
    form = (size, "uint8") if size else (d, "<f4")
    length = 2 * (size - 4) if size else d
    made: Codec | None = None
    starts = range(0, n, PART)
    for part, start in enumerate(starts):
        x = coordinates(min(PART, n - start), length, np.random.default_rng([seed, part]))
        if size:
            norms = np.linalg.norm(x.astype(np.float64), axis=1) / (1 - REST) ** 0.5
            made = made or codec_for(x / norms[:, None], float(norms.mean()), 8 * (size - 4), COSINE)
            x = np.concatenate([made.encode(x[i : i + 4096], norms[i : i + 4096]) for i in range(0, len(x), 4096)])
        rows = ((f"{start + i:09d}", row, "") for i, row in enumerate(x))
        artifact.publish_rows(folder, part, schema(*form), groups(rows, *form))
    notes: dict[str, Any] = {"bad": 0, "weights": "none", "random_weights": True}
    if made is not None:
        notes["codec"] = asdict(made)
    artifact.finish(folder, range(len(starts)), notes)


def coordinates(count: int, dimension: int, generator: np.random.Generator) -> np.ndarray:
    """float32 count dimension, stand-ins for pictures' Grams in their principal directions, like the measured
    ones in this: the variance of direction i falls as i^-1.6, the first three ten times higher (together 95 % of it);
    20 near-duplicates a source image, with a tenth of the variance among them; log-normal lengths (sigma 0.5) and one
    in a thousand 3 to 5 times longer, so that a few hubs fill the furthest lists; the directions leave out 3 % of the
    variance."""
    variance = np.arange(1, dimension + 1) ** -1.6
    variance[:3] *= 10
    sources = -(-count // CROPS)

    def normal(rows: int) -> np.ndarray:
        return generator.standard_normal((rows, dimension), dtype=np.float32)

    x = np.repeat(normal(sources), CROPS, axis=0)[:count] * np.float32(0.9**0.5)
    x += normal(count) * np.float32(0.1**0.5)
    x *= np.sqrt(variance, dtype=np.float64).astype(np.float32)
    # Crops of one image are nearly as long as each other; an outlier is an outlier by itself.
    length = np.repeat(generator.lognormal(0, 0.5, sources), CROPS)[:count]
    length *= np.where(generator.random(count) < 0.001, generator.uniform(3, 5, count), 1)
    return x * length[:, None].astype(np.float32)


def low_rank(folder: str, n: int, d: int) -> None:
    """A descriptor artifact of `n` float32 vectors of length `d`: of low rank, with noise and outliers."""
    artifact.begin(folder, "descriptors", descriptors.VERSION, {"vectors": "synthetic"}, {"n": n, "d": d})
    generator = np.random.default_rng(0)
    base = generator.normal(size=(32, d)).astype(np.float32)
    scale = (1 / np.arange(1, 33)).astype(np.float32)  # a steep spectrum, as Grams have
    form, rows = schema(d), group_rows(d)
    starts = range(0, n, 256)
    for part, start in enumerate(starts):

        def groups(start: int = start) -> list[pa.Table]:
            made = []
            for first in range(start, min(start + 256, n), rows):
                count = min(rows, start + 256 - first, n - first)
                x = (generator.normal(size=(count, 32)).astype(np.float32) * scale) @ base + 5
                x += 0.05 * generator.standard_normal(size=x.shape, dtype=np.float32)
                x *= generator.choice([1, 3], size=(count, 1), p=[0.98, 0.02]).astype(np.float32)
                keys, cells = [f"{first + i:08d}" for i in range(count)], [row.tobytes() for row in x]
                made.append(pa.table([keys, cells, [None] * count], schema=form))
            return made

        artifact.publish_rows(folder, part, form, groups())
    artifact.finish(folder, range(len(starts)), {"bad": 0})
