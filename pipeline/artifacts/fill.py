"""Fill an artifact folder: what is missing of its parts on a pool of workers, then its card."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from pipeline.artifacts import artifact, lease, pool


class Request(NamedTuple):
    """What an artifact is asked to hold; its hash decides between nothing to do and an error."""

    kind: str
    version: int
    """Of the algorithm."""
    inputs: dict[str, Any]
    options: dict[str, Any]


class Parts(NamedTuple):
    """The parts of an artifact, and who makes them."""

    numbers: Iterable[int]
    make: Callable[..., Callable[[int], dict[str, Any]]]
    """`make(*arguments)` is called once per worker; what it returns publishes a part by its number and returns what
    `timings.jsonl` keeps of it (counts, seconds)."""
    arguments: Sequence[Any]
    workers: int
    threads: int = 1
    """CPUs of a worker."""
    gpus: float = 0
    """GPUs of a worker."""


class Filled(NamedTuple):
    """A finished artifact."""

    card: artifact.Card
    made: int
    """Parts made by this call; the others were there."""


def fill(
    folder: str, job: str, request: Request, finish: Callable[[], artifact.Card], parts: Parts | None = None
) -> Filled:
    """Claim `folder`, make the parts that are missing, call `finish`, which writes the card (`artifact.finish`) and
    returns it. A finished artifact is left as it is. `job` names the lines of `timings.jsonl`.

    Raises:
        ValueError: the folder holds the results of another request.
        RuntimeError: another process writes there.
    """
    began, todo = time.perf_counter(), list[int]()
    with lease.lease(folder):
        card = artifact.begin(folder, *request)
        if card is None:
            if parts is not None:
                done = artifact.done_parts(folder)
                todo = [number for number in parts.numbers if number not in done]
            if parts is not None and todo:  # without anything to do Ray is not started
                work = todo, parts.workers, parts.threads, parts.gpus
                for _, counts in pool.each(parts.make, parts.arguments, *work, what=job, unit="parts"):
                    artifact.record(folder, job=job, **counts)
            card = finish()
        spent = {"seconds": time.perf_counter() - began, "driver_kb": pool.peak_kb()}
        artifact.record(folder, job=job, event="end", parts_written=len(todo), **spent)
    return Filled(card, len(todo))
