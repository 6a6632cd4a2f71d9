"""What a cap on the furthest lists costs, and how long balancing takes.

Of vectors in a file (.npy, float32 N x D), or generated ones with hubs, for each cap: share of the raw furthest's mean
distance that is kept (rooted, and squared; on 256 rows where there are more than 4,096), largest share of the lists
that one image is in, distinct images, seconds.
Beside it the greedy cap (up to 4,096 rows): all pairs by falling distance, each image at most cap x N times.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.neighbours.lists import hubs
from pipeline.search import balance
from pipeline.search.rows import InMemory

Array = np.ndarray


@dataclass(frozen=True)
class Config:
    """Which vectors, which caps."""

    vectors: str = ""
    """.npy file, float32 N x D; none: generated."""
    n: int = 100_000
    """Generated rows."""
    d: int = 128
    """Their length."""
    far: int = 13
    """k_f."""
    caps: tuple[float, ...] = (0.5, 0.2, 0.1, 0.05, 0.02)
    """Shares of the lists that one image may be in."""
    threads: int = 1
    """CPU threads."""


def run(config: Config) -> dict[str, float]:
    """Figures by name; those of a cap begin with it."""
    torch.set_num_threads(config.threads)
    x = np.load(config.vectors, mmap_mode="r") if config.vectors else generated(config.n, config.d)
    vectors, k, figures = InMemory(x), config.far, {"n": float(len(x)), "d": float(x.shape[1])}
    few = len(x) <= balance.SAMPLE
    rows = np.arange(len(x)) if few else np.sort(np.random.default_rng(0).permutation(len(x))[:256])
    apart = _distances(x, rows)
    furthest = np.argsort(-apart, axis=1)[:, :k]
    raw = np.take_along_axis(apart, furthest, 1)
    figures |= {f"1/{name}": float(value) for name, value in hubs(furthest).items()}
    for cap in config.caps:
        try:
            limit = balance.limit_of(len(x), k, cap)
        except ValueError as error:
            print(error)
            continue
        began, spent = time.perf_counter(), time.process_time()
        far, squares = balance.balanced(vectors, k, cap)
        found = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - spent}
        found |= {"kept": np.sqrt(squares[rows]).mean() / raw.mean()}
        found |= {"kept_squared": squares[rows].mean() / np.square(raw).mean()}
        if few:
            other = greedy(apart, k, limit)
            found |= {"greedy": other.mean() / raw.mean()}
            found |= {"greedy_squared": np.square(other).mean() / np.square(raw).mean()}
        figures |= {f"{cap}/{name}": round(float(v), 4) for name, v in {**found, **hubs(far)}.items()}
        print(f"cap {cap}: " + ", ".join(f"{name} {v:.4f}" for name, v in {**found, **hubs(far)}.items()), flush=True)
    return figures


def generated(n: int, d: int) -> Array:
    """Falling variances, and lengths that differ: the longest rows are everybody's furthest."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((n, d), dtype=np.float32) * (1 / np.arange(1, d + 1) ** 0.5).astype(np.float32)
    x *= np.exp(0.35 * generator.standard_normal((n, 1))).astype(np.float32)
    return x


def _distances(x: Array, rows: Array) -> Array:
    """float64 n N: rooted; minus infinity where a row meets itself."""
    norms, centre = np.empty(len(x)), x[rows].mean(axis=0, dtype=np.float64)
    own, products = x[rows] - centre, np.empty((len(rows), len(x)))
    for start in range(0, len(x), 512):
        block = x[start : start + 512] - centre
        norms[start : start + 512] = np.square(block).sum(axis=1)
        products[:, start : start + 512] = own @ block.T
    apart = np.sqrt(np.maximum(np.square(own).sum(axis=1)[:, None] + norms - 2 * products, 0))
    apart[rows[:, None] == np.arange(len(x))] = -np.inf
    return np.asarray(apart)


def greedy(distance: Array, k: int, limit: int) -> Array:
    """float64 n k: the distances n n that are left when pairs are taken by falling distance, each column at most
    `limit` times, each row k times, none with itself. A row that finds no column has 0 for what it lacks."""
    n = len(distance)
    rows, columns = [0] * n, [0] * n
    kept = np.zeros((n, k))
    for flat in np.argsort(-distance, axis=None, kind="stable").tolist():
        i, j = divmod(flat, n)
        if i != j and rows[i] < k and columns[j] < limit:
            kept[i, rows[i]] = distance[i, j]
            rows[i] += 1
            columns[j] += 1
    return kept
