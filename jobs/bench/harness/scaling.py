"""How much two workers gain over one, beside what two plain processes of the same kernel gain on this machine."""

from __future__ import annotations

import functools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.artifacts import pool

Make = Callable[..., Callable[[Any], Any]]
"""As in `pool.each`: called once a worker; what it returns is called for each item."""
Ended = tuple[int, float]
"""(process, time at which it ended an item)."""


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


def rate(ended: Sequence[Ended], count: int) -> float:
    """Items/s of `count` workers together, each from the end of its first item to the end of its last: starting, the
    first item, and waiting for the others at the end are left out.

    Raises:
        RuntimeError: a worker did fewer than two items.
    """
    times: dict[int, list[float]] = {}
    for process, at in ended:
        times.setdefault(process, []).append(at)
    if len(times) != count or any(len(of) < 2 for of in times.values()):
        raise RuntimeError(f"{count} workers wanted, items done by each: {[len(of) for of in times.values()]}")
    return sum((len(of) - 1) / (max(of) - min(of)) for of in times.values())


def timed(make: Make, *arguments: Any) -> Callable[[Any], Ended]:
    """A worker that says when it ended each item."""
    work = make(*arguments)

    def run(item: Any) -> Ended:
        work(item)
        return os.getpid(), time.monotonic()

    return run


def _plain(make: Make, arguments: Sequence[Any], items: Sequence[int], ready: Any, go: Any, ended: Any) -> None:
    import torch

    torch.set_num_threads(1)
    work = timed(make, *arguments)
    ready.release()
    go.wait()
    ended.put([work(item) for item in items])


def _processes(make: Make, arguments: Sequence[Any], items: int, count: int) -> float:
    """Items/s of `count` plain processes that begin together, a share of the items and the first of it again for
    each."""
    context = multiprocessing.get_context("spawn")
    ready, go, ended = context.Semaphore(0), context.Event(), context.Queue()
    pool = []
    for i in range(count):
        share = [i, *range(i, items, count)]
        pool.append(context.Process(target=_plain, args=(make, arguments, share, ready, go, ended)))
    for process in pool:
        process.start()
    for _ in pool:
        if not ready.acquire(timeout=120):
            raise RuntimeError("a plain process did not start within 120 s")
    go.set()
    found = [end for _ in pool for end in ended.get()]
    for process in pool:
        process.join()
    return rate(found, count)


def _ray(make: Make, arguments: Sequence[Any], items: int, count: int) -> float:
    """Items/s of `count` Ray workers. One that starts later finds enough left: two items more for each."""
    done = pool.each(functools.partial(timed, make), arguments, [*range(items), *range(2 * count)], count)
    return rate([end for _, end in done], count)
