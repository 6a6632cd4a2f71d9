"""Exact neighbour search against the machine's own matrix products (torch.matmul, float32), in the same run.

2 N^2 d floating point operations are counted; symmetry is not used. The vectors are of low rank with noise and outliers,
on disk as jobs.describe leaves them; reading, selection, exact recomputation and writing the tiles all count.
"""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from pipeline import artifacts, descriptors, neighbours
from pipeline.neighbours import Parts, Plan


@dataclass(frozen=True)
class Config:
    """Sizes of the measurement."""

    n: int = 2048
    """Images."""
    d: int = 43_232
    """Length of a vector (43,232: relu1_2, relu2_2, relu3_1; 305,888: to relu5_1)."""
    block: int = 1024
    """Rows of a block."""
    near: int = 5
    """Closest kept."""
    far: int = 13
    """Furthest kept."""
    threads: int = 2
    """CPU threads, for both sides."""
    folder: str | None = None
    """Where the vectors are put for the time of the run: 4 n d bytes; none: the system's temporary folder."""


def run(config: Config) -> dict[str, float]:
    """Returns fraction_of_gemm, gflops, gemm_gflops, seconds, peak_mb."""
    torch.set_num_threads(config.threads)
    with tempfile.TemporaryDirectory(dir=config.folder) as folder:
        _store(config, f"{folder}/vectors")
        plan = Plan(f"{folder}/vectors", f"{folder}/tiles", config.near, config.far, 16, config.n, config.block, 1)
        vectors = descriptors.Vectors(plan.descriptors)
        parts = Parts(plan, f"{folder}/lists", vectors.part_rows, list(range(len(vectors.part_rows))))
        before = _gemm(config)
        began = time.perf_counter()
        work = neighbours.make(plan, neighbours.centre(vectors))
        for item in plan.items(parts.blocks()):
            counts = work(item)
            print(", ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in counts.items()))
        parts.publish()
        seconds = time.perf_counter() - began
        gemm = (before + _gemm(config)) / 2
    rate = 2 * config.n**2 * config.d / seconds / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"fraction_of_gemm": rate / gemm, "gflops": rate, "gemm_gflops": gemm, "seconds": seconds}
    return {**figures, "n": config.n, "d": config.d, "block": config.block, "peak_mb": peak}


def _gemm(config: Config) -> float:
    """GFLOP/s of block x d times d x block, the median of five."""
    rows = min(config.block, config.n)
    x = torch.randn(rows, config.d, generator=torch.Generator().manual_seed(0))
    y = torch.randn(rows, config.d, generator=torch.Generator().manual_seed(1))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        torch.matmul(x, y.T)
        times.append(time.perf_counter() - began)
    return 2 * rows**2 * config.d / sorted(times)[2] / 1e9


def _store(config: Config, folder: str) -> None:
    artifacts.begin(
        folder, "descriptors", descriptors.VERSION, {"vectors": "synthetic"}, {"n": config.n, "d": config.d}
    )
    generator = np.random.default_rng(0)
    base = generator.normal(size=(32, config.d)).astype(np.float32)
    scale = (1 / np.arange(1, 33)).astype(np.float32)  # a steep spectrum, as Grams have
    schema, rows = descriptors.schema(config.d), descriptors.group_rows(config.d)
    starts = range(0, config.n, 256)
    for part, start in enumerate(starts):

        def groups(start: int = start) -> list[pa.Table]:
            made = []
            for first in range(start, min(start + 256, config.n), rows):
                count = min(rows, start + 256 - first, config.n - first)
                x = (generator.normal(size=(count, 32)).astype(np.float32) * scale) @ base + 5
                x += 0.05 * generator.standard_normal(size=x.shape, dtype=np.float32)
                x *= generator.choice([1, 3], size=(count, 1), p=[0.98, 0.02]).astype(np.float32)
                keys, cells = [f"{first + i:08d}" for i in range(count)], [row.tobytes() for row in x]
                made.append(pa.table([keys, cells, [None] * count], schema=schema))
            return made

        artifacts.publish_rows(folder, part, schema, groups())
    artifacts.finish(folder, range(len(starts)), {"bad": 0})
