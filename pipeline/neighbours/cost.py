"""What a neighbour search will take, before it begins: operations, bytes, memory, seconds.

Operations are counted (each method's `Plan.work`); seconds are operations over rates that are measured here in a
moment, on numbers of the search's own shape and on as many threads at once as will work. Below SMALL operations
nothing is measured and the start-up is all.

Memory is of all processes together: this one and Ray's beside the workers. Mapped files count in each worker that maps
them, as the system counts them, though the page cache holds them once and gives them back when asked.
"""

from __future__ import annotations

import heapq
import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import faiss
import numpy as np
import torch
from pydantic import ByteSize

from pipeline.neighbours.units import Plan, Units
from pipeline.search import best, bounds
from pipeline.search.bounds import Array
from pipeline.style import vectors
from pipeline.style.vectors import Vectors

MB = 1 << 20
DRIVER, RAY, WORKER = 900 * MB, 700 * MB, 500 * MB
"""Resident before there is any data: this process, Ray's own, a worker with torch and FAISS."""
SMALL = 1e11
LOADING = time.process_time()
"""Seconds that it took this process to come here: nearly all of it is libraries."""
STARTS, WORKERS_START = 4.2, 1.2
"""Seconds until the first unit of work, relative to LOADING, as Ray's processes and the workers load the same
libraries: where Ray has to be started, and where it runs."""


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
    start: float = 0.0
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


def text(number: float) -> str:
    """Bytes for people: 1.5 KiB."""
    return ByteSize(number).human_readable(separator=" ")


def worker_bytes(plan: Plan, rows: Vectors) -> int:
    """Resident bytes of a worker."""
    group = vectors.GROUP_BYTES * (2 + (8 if rows.codec is not None else 0))  # as stored, and decoded
    return int(WORKER + group + plan.worker_bytes(rows))


def peak_bytes(plan: Plan, rows: Vectors, workers: int, capping: int = 0) -> int:
    """Resident bytes of the whole search. capping: what this process holds for `--far-cap`."""
    lists = 24 * plan.rows * (plan.near + plan.far) + 100 * plan.rows  # and keys, at the end
    return DRIVER + RAY + lists + capping + workers * worker_bytes(plan, rows)


def estimate(
    plan: Plan,
    rows: Vectors,
    workers: int,
    threads: int,
    capping: int = 0,
    rates: Rates | None = None,
    cores: int = 0,
) -> Estimate:
    """What the search will take. `rates`: measured here unless given. `cores`: that the workers have together; 0: this
    machine's, or on a cluster as many as they ask for."""
    cores = cores or (workers * threads if os.environ.get("RAY_ADDRESS") else os.cpu_count() or 1)
    work = plan.work(rows)
    counted = Counter[str]()
    for stage in work.stages:
        for units in stage:
            counted.update(units.counts)
    written = work.written + 12.0 * plan.rows * (plan.near + plan.far)
    read = counted["rows"] * rows.bytes + written
    operations = sum(value * {"scan": 3, "pairs": 3}.get(name, 1) for name, value in counted.items() if name != "rows")
    active = max(1, min(workers, cores // threads))
    if rates is None:
        import ray  # slow: only where a search is planned

        at_once = min(active * threads, os.cpu_count() or 1)
        began = time.perf_counter()
        rates = measure(plan, rows, at_once, "scan" in counted) if operations > SMALL else TYPICAL
        start = (WORKERS_START if ray.is_initialized() else STARTS) * LOADING
        rates = replace(rates, start=start + time.perf_counter() - began)
    seconds = rates.start
    for stage in work.stages:
        seconds += _taken(stage, rates, active, min(threads, cores))
    return Estimate(operations, read, written, peak_bytes(plan, rows, workers, capping), seconds)


def _taken(stage: list[Units], rates: Rates, workers: int, threads: int) -> float:
    """Seconds until the last unit is done, each given to the first worker that is free."""
    free = [0.0] * workers
    for units in stage:
        each = sum(value / getattr(rates, name) for name, value in units.counts.items()) / threads / units.count
        for _ in range(units.count):
            heapq.heapreplace(free, free[0] + each)
    return max(free)


TYPICAL = Rates(6e10, 2e9, 4e8, 2e9, 3e5)


def measure(plan: Plan, rows: Vectors, at_once: int = 1, scan: bool = True) -> Rates:
    """Rates of one thread while `at_once` of them work, on random numbers; about a second."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    try:
        products, scores, pairs, scanned, read = (
            _rate(kind, plan, rows, at_once) for kind in (_products, _scores, _pairs, _scan if scan else None, _rows)
        )
    finally:
        torch.set_num_threads(before)
    return Rates(products, scores, pairs, scanned, read)


Kernel = tuple[float, Callable[[], object]]
"""(operations, what does them)."""


def _rate(kind: Callable[[Plan, Vectors], Kernel] | None, plan: Plan, rows: Vectors, at_once: int) -> float:
    """Operations a second of one of `at_once` threads: of the fastest of some rounds, a warming one left out, as what
    others take of the machine is not the work's."""
    if kind is None:
        return float("inf")
    kernels = [kind(plan, rows) for _ in range(at_once)]
    best, spent = float("inf"), 0.0
    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(_warm, kernels))
        while spent < 0.1:
            began = time.perf_counter()
            list(threads.map(lambda kernel: kernel[1](), kernels))
            best, spent = min(best, time.perf_counter() - began), spent + time.perf_counter() - began
    return kernels[0][0] / best


def _warm(kernel: Kernel) -> None:
    torch.set_num_threads(1)  # OpenMP counts for each thread that calls it
    faiss.omp_set_num_threads(1)
    kernel[1]()


def _pair(plan: Plan, rows: Vectors) -> tuple[Array, Array]:
    generator, d = np.random.default_rng(0), rows.dimension
    count = max(64, min(1024, plan.block, (1 << 24) // d))
    x, y = (generator.standard_normal((count, d), dtype=np.float32) for _ in range(2))
    return x, y


def _products(plan: Plan, rows: Vectors) -> Kernel:
    x, y = _pair(plan, rows)
    return 2.0 * len(x) * len(y) * rows.dimension, lambda: bounds.products(x, y)


def _scores(plan: Plan, rows: Vectors) -> Kernel:
    scores = torch.randn(256, 4096, generator=torch.Generator().manual_seed(0))
    heap = best.Heaps(len(scores), plan.far + 16)
    heap.add(scores, 0)  # few of what comes later pass the best so far
    return float(scores.numel()), lambda: heap.add(scores + 0.5, 4096)


def _pairs(plan: Plan, rows: Vectors) -> Kernel:
    x, y = _pair(plan, rows)
    generator, count = np.random.default_rng(1), max(8, (1 << 21) // rows.dimension)
    i, j = (generator.integers(len(x), size=count) for _ in range(2))
    return float(count * rows.dimension), lambda: bounds.exact(x, y, i, j)


def _scan(plan: Plan, rows: Vectors) -> Kernel:
    """An inverted file that does not fit the caches."""
    d, lists = rows.dimension, 64
    count = min(1 << 17, (1 << 24) // d)
    x = np.random.default_rng(0).standard_normal((count, d), dtype=np.float32)
    made: Any = faiss.index_factory(d, f"IVF{lists},Flat")
    made.quantizer.add(x[:lists])
    made.is_trained = True
    made.add(x)
    made.nprobe = 8
    queries = x[:256]
    return len(queries) * count * d * int(made.nprobe) / lists, lambda: made.search(queries, 51)


def _rows(plan: Plan, rows: Vectors) -> Kernel:
    """Some row groups by turns: one alone would stay in the processor's cache."""
    own = Vectors(plan.descriptors)
    some = [bounds for bounds in own.bounds if bounds[1] - bounds[0] == own.bounds[0][1]][:8]
    turns = cycle(some)
    return float(some[0][1] - some[0][0]), lambda: own.rows(*next(turns))
