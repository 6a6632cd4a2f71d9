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

import torch

from jobs.bench.harness.vectors import low_rank
from pipeline.neighbours import lists, units
from pipeline.neighbours.exact import Plan
from pipeline.neighbours.lists import Parts
from pipeline.style.vectors import Vectors


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
        low_rank(f"{folder}/vectors", config.n, config.d)
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
