"""How a neighbour search is cut: units of work that are each one published file, so that any may be done again, on any
worker, after any kill.

A method (`exact`, `certified`, `index`) is a plan and a worker: the plan says which units there are, what they will
cost and what the artifact's request and card say of the search; the worker does one unit.
"""

from __future__ import annotations

import io
import os
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline.artifacts import artifact, pool, storage
from pipeline.search.bounds import Array
from pipeline.style.vectors import Vectors

Item = tuple[str, int]
"""(kind of unit, its number)."""


@dataclass(frozen=True)
class Units:
    """Units of work that are alike."""

    count: int
    counts: dict[str, float]
    """Of all together, by the names of `cost.Rates`."""


@dataclass(frozen=True)
class Work:
    """What a search takes."""

    stages: list[list[Units]]
    """Units of a stage are handed out in this order; each stage waits for the one before."""
    written: float
    """Bytes of the units' files."""


@dataclass(frozen=True)
class Plan:
    """What every worker of a search needs to know. The lists of a query block are the unit ("lists", its number): the
    artifact's columns and `valid`, bool a row."""

    descriptors: str
    """Folder of the descriptor artifact."""
    scratch: str
    """Folder of the units' results; its name and the request hold all that they depend on."""
    near: int
    far: int
    rows: int
    block: int
    """Rows of a query block."""

    measured_by_blocks: ClassVar[bool] = True
    """Whether `measure` reads what each query block's unit has left."""

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """(start, stop) of each query block."""
        return [(start, min(start + self.block, self.rows)) for start in range(0, self.rows, self.block)]

    def units(self, blocks: list[int]) -> list[Item]:
        """All that these query blocks' lists take, in an order in which each unit waits only for earlier ones."""
        raise NotImplementedError

    def name(self, item: Item) -> str:
        """Of the file that says that a unit is done."""
        return f"{item[0]}-{item[1]:05d}.npz"

    def path(self, item: Item) -> str:
        return storage.join(self.scratch, self.name(item))

    def done(self, item: Item) -> bool:
        return storage.exists(self.path(item))

    def items(self, blocks: list[int]) -> list[Item]:
        """Of `units` those that are still to do."""
        there = set(storage.names(self.scratch))
        return [item for item in self.units(blocks) if self.name(item) not in there]

    def worker(self, centre: Array) -> Worker:
        """centre: float32 D, near the vectors' mean."""
        raise NotImplementedError

    def request(self, described: artifact.Card) -> tuple[dict[str, Any], dict[str, Any]]:
        """The artifact's (inputs, options), from the card of the descriptors."""
        inputs = {name: described["inputs"][name] for name in ("dataset", "split")}
        return {**inputs, "descriptors": described["content"]}, {"near": self.near, "far": self.far}

    def measure(self, lists: dict[str, Array]) -> dict[str, Any]:
        """What the card says of the finished lists (as `neighbours.read_lists` gives them)."""
        raise NotImplementedError

    def worker_bytes(self, vectors: Vectors) -> int:
        """What a worker holds beside its libraries and a row group."""
        raise NotImplementedError

    def work(self, vectors: Vectors) -> Work:
        """What the search takes."""
        raise NotImplementedError


class Worker:
    """One actor's state: the method named after a unit's kind does it and publishes its file."""

    plan: Plan

    def run(self, item: Item) -> dict[str, Any]:
        """Do a unit unless it is done; returns what it was, counts and seconds."""
        began, cpu = time.perf_counter(), time.process_time()
        counts: dict[str, Any] = {} if self.plan.done(item) else getattr(self, item[0])(item[1]) or {}
        spent = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
        return {"what": item[0], "number": item[1], "pid": os.getpid(), "peak_kb": pool.peak_kb(), **spent, **counts}

    def wait(self, *items: Item) -> None:
        """For units that were handed out before, to other workers."""
        while not all(map(self.plan.done, items)):
            time.sleep(0.05)


def unit_worker(plan: Plan, centre: Array) -> Callable[[Item], dict[str, Any]]:
    """For `pool.each`."""
    return plan.worker(centre).run


def pieces(part_rows: list[int], least: int) -> tuple[tuple[int, int], ...]:
    """(first row, last + 1) of runs of whole parts with at least `least` rows each."""
    found, start, stop = [], 0, 0
    for rows in part_rows:
        stop += rows
        if stop - start >= least:
            found.append((start, stop))
            start = stop
    if stop > start:
        found.append((start, stop))
    return tuple(found)


def save_arrays(path: str, **arrays: Array) -> None:
    """Publish arrays as an .npz file."""
    sink = io.BytesIO()
    np.savez(sink, **arrays)  # type: ignore[arg-type]
    storage.publish(path, sink.getvalue())


def load_arrays(path: str) -> dict[str, Array]:
    """All arrays of an .npz file. Raises ValueError where it is damaged."""
    try:
        with np.load(io.BytesIO(storage.read(path)), allow_pickle=False) as found:
            return dict(found)
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it and run the same command again") from error
