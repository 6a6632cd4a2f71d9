"""What a neighbour search will cost, before it begins: operations, bytes, memory, seconds; and the blocks that keep it
within a given memory.

Operations are counted (formulas below); seconds are operations over rates that are measured here in a moment, on
numbers of the search's own shape. Below SMALL operations nothing is measured and the start-up is all.

Memory is of all processes together: this one and Ray's beside the workers. Mapped files count in each worker that maps
them, as the system counts them, though the page cache holds them once and gives them back when asked.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import torch

from pipeline import certified, descriptors, furthest, index, neighbours, search
from pipeline.neighbours import Blocks
from pipeline.search import Array

MB = 1 << 20
DRIVER, RAY, WORKER = 900 * MB, 700 * MB, 500 * MB
"""Resident before there is any data: this process, Ray's own, a worker with torch and FAISS."""
SMALL = 1e11
STARTS = 4.2
"""Seconds from here to the first unit of work, relative to those it took this process to come here: Ray's processes
and the workers load the same libraries."""
OPEN_SHARE = 0.01
"""Of the rows that certified search compares: known only afterwards; real pictures had less."""


@dataclass(frozen=True)
class Rates:
    """Of one thread, each second."""

    products: float
    """Floating point operations of float32 products."""
    scores: float
    """Scores of which one list's best are kept."""
    pairs: float
    """Numbers of pairs compared in float64."""
    scan: float
    """Numbers of an index's lists compared."""
    rows: float
    """Rows read and decoded."""
    start: float
    """Seconds until work begins."""


@dataclass(frozen=True)
class Estimate:
    """Of a whole search."""

    operations: float
    """Floating point operations."""
    read: float
    """Bytes read from descriptors and unit files; what the page cache holds is read from there."""
    written: float
    """Bytes."""
    peak: int
    """Bytes resident, all processes together."""
    seconds: float


def size(text: str, option: str = "--memory") -> int:
    """`4GiB`, `500 MB`, `1e9` -> bytes.

    Raises:
        ValueError: not a size.
    """
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([KMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    if not match:
        raise ValueError(f"{option} {text}: give a size such as 4GiB or 500MB")
    number, unit, binary = match.groups()
    if not float(number) < 1e15:
        raise ValueError(f"{option} {text}: give a size such as 4GiB or 500MB")
    return int(float(number) * (1024 if binary else 1000) ** " KMGT".index(unit.upper() or " "))


def text(number: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} TiB"


def peak_bytes(plan: Blocks, vectors: descriptors.Vectors, workers: int, cap: float = 0.0) -> int:
    """Resident bytes of the whole search."""
    n, d = plan.rows, vectors.dimension
    here = DRIVER + RAY + n * 12 * (plan.near + plan.far) * 2 + 100 * n  # lists and keys at the end
    if cap:
        pool = max(512, int(4 * plan.far / cap))
        here += 4 * pool * d + 6 * (1 << 27) + 12 * n * (plan.far + 16) + 16 * n * plan.far
    return here + workers * worker_bytes(plan, vectors)


def worker_bytes(plan: Blocks, vectors: descriptors.Vectors) -> int:
    """Resident bytes of a worker."""
    n, d, block = plan.rows, vectors.dimension, plan.block
    group = 2 * descriptors.GROUP_BYTES + 8 * descriptors.GROUP_BYTES * (vectors.codec is not None)
    lists = 60 * block * (plan.near + plan.far)
    if isinstance(plan, neighbours.Plan):
        each = 8 * block * d + 12 * block * block + lists + 40 * n
        each += 24 * plan.spans * block * (plan.near + plan.far + 2 * plan.margin)
    elif isinstance(plan, certified.Plan):
        m = plan.directions
        opened = 24 * 3 * block * max(plan.near + plan.far, int(OPEN_SHARE * n))
        working = 4 * block * d + opened + 5 * 4 * certified.QUERIES * certified.ROWS + lists
        fitting = 16 * min(n, 4096, 4 * m) ** 2 + 16 * m * d
        each = max(working, fitting, 16 * m * d) + 12 * (m + 1) * n + 40 * n
    else:
        assert isinstance(plan, index.Plan)
        decisive = descriptors.Vectors(plan.rerank).dimension if plan.rerank else d
        working = 4 * block * (3 * d + decisive) + 100 * block * min(plan.candidates, n) + lists
        sample = index.training_rows(plan.index, d, n)
        training = 8 * d * sample + 16 * d * min(sample, index.SAMPLE_LEAST)
        each = max(working, training) + 40 * n + 12 * d * furthest.CHUNK + n * (4 * d + 8)
    return int(WORKER + group + each)


def estimate(
    plan: Blocks,
    vectors: descriptors.Vectors,
    workers: int,
    threads: int,
    cap: float = 0.0,
    rates: Rates | None = None,
    cores: int = 0,
) -> Estimate:
    """What the search will take. `rates`: measured here unless given. `cores`: that the workers have together; 0: this
    machine's, or on a cluster as many as they ask for."""
    n, d, stored = plan.rows, vectors.dimension, vectors.bytes
    cores = cores or (workers * threads if os.environ.get("RAY_ADDRESS") else os.cpu_count() or 1)
    blocks, lists = len(plan.blocks), 12 * n * (plan.near + plan.far)
    side = plan.near + plan.far
    written, serial = 2.0 * lists, list[dict[str, float]]()
    if isinstance(plan, neighbours.Plan):
        work = {"products": 2.0 * n * n * d, "scores": 2.0 * n * n, "pairs": 1.2 * n * side * d}
        work["rows"] = 2.0 * n * blocks
        written += 24.0 * n * plan.spans * (side + 2 * plan.margin)
    elif isinstance(plan, certified.Plan):
        m, sample = plan.directions, min(n, 4096, 4 * plan.directions)
        fitted = 2.0 * sample * sample * d + 4.0 * m * sample * d
        work = {"products": 2.0 * n * n * m + 4.0 * n * m * d + fitted, "scores": 2.0 * n * n}
        work |= {"pairs": max(OPEN_SHARE * n, 1.2 * side) * n * d, "rows": n * (blocks + 3.0)}
        written += 8.0 * n * (m + 2)
    else:
        assert isinstance(plan, index.Plan)
        lists_of = index.inverted_lists(plan.index, d)
        sample = index.training_rows(plan.index, d, n)
        queries = min(n, plan.sample)
        # One worker trains, another finds the sampled rows' exact lists; what the rest does waits for the first.
        train = 2.0 * d * lists_of * sample * index.ROUNDS + 2.0 * d * d * min(sample, index.SAMPLE_LEAST)
        serial = [
            {"products": train},
            {"products": 4.0 * queries * n * d, "scores": 2.0 * queries * n, "rows": 2.0 * n},
        ]
        work = {"products": 4.0 * n * lists_of * d + 4.0 * n * scanned(n) * (furthest.DIRECTIONS + 1)}
        if lists_of:
            work["scan"] = float(n) * n * d * min(1.0, plan.probes / lists_of)
        else:  # as if all were compared: right for Flat, too much for graphs
            work["products"] += 2.0 * n * n * d
        work["rows"] = n * (blocks + 4.0)
        work |= {"pairs": 1.0 * n * min(plan.candidates, n) * d}
        written += 2.0 * n * (4 * d + 8)
    counted = Counter(work)
    for unit in serial:
        counted.update(unit)
    read = counted["rows"] * stored + written
    operations = sum(value * {"scan": 3, "pairs": 3}.get(name, 1) for name, value in counted.items() if name != "rows")
    if rates is None:
        rates = measure(d, plan) if operations > SMALL else TYPICAL

    def spent(some: dict[str, float]) -> float:
        return float(sum(value / getattr(rates, name) for name, value in some.items()))

    alone = [spent(unit) for unit in serial]
    seconds = spent(work) / min(workers * threads, cores)
    seconds += max(alone, default=0.0) if min(workers, cores) > 1 else sum(alone)
    return Estimate(operations, read, written, peak_bytes(plan, vectors, workers, cap), seconds + rates.start)


def scanned(rows: int) -> int:
    """Rows of the shell that a query meets where there are outliers: one block of products."""
    return min(rows, 1024)


TYPICAL = Rates(6e10, 2e9, 4e8, 2e9, 3e5, 12.0)


def measure(dimension: int, plan: Blocks) -> Rates:
    """Rates of one thread, on random numbers; about a second."""
    loading, began = time.process_time(), time.perf_counter()  # so far: nearly all of it is libraries
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    try:
        generator = np.random.default_rng(0)
        rows = max(64, min(1024, plan.block, (1 << 24) // dimension))
        x, y = (generator.standard_normal((rows, dimension), dtype=np.float32) for _ in range(2))
        products = 2.0 * rows * rows * dimension / _seconds(lambda: search.products(x, y))
        scores = generator.standard_normal((256, 4096), dtype=np.float32)
        heap = search.Heaps(256, plan.far + 16)
        heap.add(scores, 0)  # few of what comes later pass the best so far

        def keep() -> None:
            heap.add(scores + np.float32(0.5), 4096)

        kept = scores.size / _seconds(keep)
        i, j = (generator.integers(rows, size=max(8, (1 << 21) // dimension)) for _ in range(2))
        pairs = len(i) * dimension / _seconds(lambda: search.exact(x, y, i, j))
        scan = _scan(generator, dimension) if isinstance(plan, index.Plan) else 1.0
        vectors = descriptors.Vectors(plan.descriptors)
        first, last = vectors.bounds[0]
        read = (last - first) / _seconds(lambda: vectors.rows(first, last))
    finally:
        torch.set_num_threads(before)
    return Rates(products, kept, pairs, scan, read, STARTS * loading + time.perf_counter() - began)


def _scan(generator: np.random.Generator, dimension: int) -> float:
    """Numbers a second of an inverted file that does not fit the caches."""
    count, lists = min(1 << 17, (1 << 24) // dimension), 64
    x = generator.standard_normal((count, dimension), dtype=np.float32)
    made: Any = faiss.index_factory(dimension, f"IVF{lists},Flat")
    made.quantizer.add(x[:lists])
    made.is_trained = True
    made.add(x)
    made.nprobe = 8
    queries: Array = x[:256]
    visited = len(queries) * count * dimension * int(made.nprobe) / lists
    return visited / _seconds(lambda: made.search(queries, 51))


def _seconds(work: Callable[[], object], least: float = 0.1) -> float:
    """The least of some runs, a warming one left out: what others take of the machine is not the work's."""
    work()
    best, spent = float("inf"), 0.0
    while spent < least:
        began = time.perf_counter()
        work()
        best, spent = min(best, time.perf_counter() - began), spent + time.perf_counter() - began
    return best
