"""How much two workers gain over one, beside what two plain processes of the same kernel gain on this machine."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from pipeline import workers

Make = Callable[..., Callable[[Any], Any]]
"""As in `workers.each`: called once a worker; what it returns is called for each item."""


def scaling(make: Make, arguments: Sequence[Any], items: int, rounds: int = 3) -> dict[str, float]:
    """`scaling_2`: the gain of two Ray workers of one thread over one, divided by that of two plain processes over one;
    `gain_2_processes`: that gain. Items are 0 ... items - 1, an even number; medians over the rounds."""
    gains = []
    for _ in range(rounds):
        plain = _processes(make, arguments, items, 2) / _processes(make, arguments, items, 1)
        gains.append((plain, _ray(make, arguments, items, 2) / _ray(make, arguments, items, 1)))
    return {
        "scaling_2": statistics.median(ray / plain for plain, ray in gains),
        "gain_2_processes": statistics.median(plain for plain, _ in gains),
    }


def _plain(make: Make, arguments: Sequence[Any], share: int, first: int, ready: Any, go: Any) -> None:
    import torch

    torch.set_num_threads(1)
    work = make(*arguments)
    work(first)
    ready.release()
    go.wait()
    for item in range(first, first + share):
        work(item)


def _processes(make: Make, arguments: Sequence[Any], items: int, count: int) -> float:
    """Items/s of `count` plain processes that share them, start-up and a warm-up item left out."""
    context = multiprocessing.get_context("spawn")
    ready, go = context.Semaphore(0), context.Event()
    share = items // count
    pool = [context.Process(target=_plain, args=(make, arguments, share, i * share, ready, go)) for i in range(count)]
    for process in pool:
        process.start()
    for _ in pool:
        if not ready.acquire(timeout=120):
            raise RuntimeError("a plain process did not start within 120 s")
    began = time.perf_counter()
    go.set()
    for process in pool:
        process.join()
    if any(process.exitcode for process in pool):
        raise RuntimeError("a plain process failed")
    return share * count / (time.perf_counter() - began)


def _ray(make: Make, arguments: Sequence[Any], items: int, count: int) -> float:
    """Items/s of `count` Ray workers; the clock starts when each has ended its first, warm-up item."""
    done = workers.each(make, arguments, [*range(count), *range(items)], count)
    for _ in range(count):
        next(done)
    began = time.perf_counter()
    for _ in done:
        pass
    return items / (time.perf_counter() - began)
