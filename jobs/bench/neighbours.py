"""Exact neighbour search against the machine's own matrix products (torch.matmul, float32), in the same run.

2 N^2 d floating point operations are counted; symmetry is not used. The vectors are of low rank with noise and
outliers, on disk as jobs.describe leaves them; reading, selection, exact recomputation and writing the tiles all count.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from pipeline.artifacts import artifact
from pipeline.neighbours import lists, units
from pipeline.neighbours.exact import Plan
from pipeline.neighbours.lists import Parts
from pipeline.style import descriptors
from pipeline.style.vectors import Vectors, group_rows, schema


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
    """Returns fraction_of_gemm, the same by CPU seconds (less disturbed by others), rates, seconds, peak_mb."""
    torch.set_num_threads(config.threads)
    with tempfile.TemporaryDirectory(dir=config.folder) as folder:
        store(config, f"{folder}/vectors")
        plan = Plan(f"{folder}/vectors", f"{folder}/tiles", config.near, config.far, config.n, config.block, 16, 1)
        vectors = Vectors(plan.descriptors)
        parts = Parts(plan, f"{folder}/lists", vectors.part_rows, list(range(len(vectors.part_rows))))
        product = _product(config)
        product()
        spent, gemm = Spent(), Spent()
        with spent:
            work = units.unit_worker(plan, lists.centre(vectors))
        for item in plan.items(parts.blocks()):
            with spent:
                counts = work(item)
            with gemm:  # in between: whatever else runs on the machine slows both
                product()
            print(", ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in counts.items()))
        with spent:
            parts.publish()
    mine, rows = 2 * config.n**2 * config.d / 1e9, min(config.block, config.n)
    theirs = 2 * rows**2 * config.d / 1e9 * gemm.times
    return {
        "fraction_of_gemm": mine / spent.wall / (theirs / gemm.wall),
        "fraction_by_cpu_time": mine / spent.cpu / (theirs / gemm.cpu),
        "gflops": mine / spent.wall,
        "gemm_gflops": theirs / gemm.wall,
        "seconds": spent.wall,
        "n": config.n,
        "d": config.d,
        "block": config.block,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


class Spent:
    """Wall and CPU seconds of what runs within."""

    def __init__(self) -> None:
        self.wall, self.cpu, self.times = 0.0, 0.0, 0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._began[0]
        self.cpu += time.process_time() - self._began[1]
        self.times += 1


def _product(config: Config) -> Callable[[], object]:
    """A product of two blocks."""
    rows = min(config.block, config.n)
    x = torch.randn(rows, config.d, generator=torch.Generator().manual_seed(0))
    y = torch.randn(rows, config.d, generator=torch.Generator().manual_seed(1))
    return lambda: torch.matmul(x, y.T)


def store(config: Config, folder: str) -> None:
    """The vectors as a descriptor artifact in `folder`."""
    artifact.begin(folder, "descriptors", descriptors.VERSION, {"vectors": "synthetic"}, {"n": config.n, "d": config.d})
    generator = np.random.default_rng(0)
    base = generator.normal(size=(32, config.d)).astype(np.float32)
    scale = (1 / np.arange(1, 33)).astype(np.float32)  # a steep spectrum, as Grams have
    form, rows = schema(config.d), group_rows(config.d)
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
                made.append(pa.table([keys, cells, [None] * count], schema=form))
            return made

        artifact.publish_rows(folder, part, form, groups())
    artifact.finish(folder, range(len(starts)), {"bad": 0})
