"""The k closest (a row itself left out) and k furthest of every row, exact.

Work is cut into tiles of one query block by one span of database blocks; a tile's candidates are a small file, joined
by an associative merge, so that tiles may be done in any order, on any worker, and again. Then each query block streams
the database once more and recomputes its finalists exactly (pipeline.search says why that is enough).

Memory of a worker: `Plan.worker_bytes`: two blocks of vectors, their products; not of the number of images but for 40
bytes each. On a GPU there are the blocks that stay (`blocks.SHARE`), a few in hand, and the products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pipeline.artifacts import storage
from pipeline.neighbours import units
from pipeline.neighbours.blocks import Blocks, OfDevice, OfHost
from pipeline.neighbours.units import Item, Units, Work, load_arrays, save_arrays
from pipeline.search import bounds
from pipeline.search.best import Candidates
from pipeline.search.bounds import Array, Kind
from pipeline.style.vectors import Vectors

BLOCK = 4096
"""Rows of a block at most."""
DEVICE_BLOCK = 8192
"""The same on a GPU: 256 MB of products; smaller ones leave it waiting for the next."""
OPEN = 1024
"""Rows at a time that candidates did not suffice for."""

Distances = Callable[[Array, Array], Array]
"""Query rows, rows of a block -> squared distances."""


@dataclass(frozen=True)
class Plan(units.Plan):
    """What every worker of the exact search needs to know; database blocks are as large as query blocks. Units are
    ("tile", query block x spans + span) and the lists."""

    margin: int
    """Candidates kept beyond k."""
    spans: int
    """Runs of database blocks that a query block's tiles are spread over."""
    device: str = "cpu"
    """Where blocks stay, products are taken and distances computed: `cuda` within an actor that has a GPU. Not FAISS's
    own search on a GPU: it has no furthest, and one product would not serve both lists."""
    products: Kind = "fp32"
    """Numbers that products are taken of, on a device; the bounds are as wide as they need."""
    share: float = 1.0
    """Of the device that each actor has."""

    ahead: int = 1
    """Query blocks whose tiles are given out before the lists of one: with fewer than there are workers, one with lists
    in hand would wait for whoever has their tiles."""

    measured_by_blocks: ClassVar[bool] = False

    def span(self, number: int) -> list[tuple[int, int]]:
        return self.blocks[number :: self.spans]

    def tiles(self, block: int) -> list[Item]:
        return [("tile", block * self.spans + span) for span in range(self.spans)]

    def units(self, blocks: list[int]) -> list[Item]:
        found: list[Item] = []
        for i in range(len(blocks) + self.ahead):
            found += self.tiles(blocks[i]) if i < len(blocks) else []
            found += [("lists", blocks[i - self.ahead])] if i >= self.ahead else []
        return found

    def worker(self, centre: Array) -> Worker:
        return Worker(self, centre)

    def measure(self, lists: dict[str, Array]) -> dict[str, Any]:
        """Each list is proved, or took all rows."""
        return {"method": "exact", "certified_share": 1.0}

    def worker_bytes(self, vectors: Vectors) -> int:
        lists, tiles = self.near + self.far, self.near + self.far + 2 * self.margin
        working = 8 * vectors.dimension + 12 * self.block + 60 * lists + 24 * self.spans * tiles
        return self.block * working + 40 * self.rows

    def work(self, vectors: Vectors) -> Work:
        n, d, lists, blocks = float(self.rows), vectors.dimension, self.near + self.far, len(self.blocks)
        tiles = Units(blocks * self.spans, {"products": 2 * n * n * d, "scores": 2 * n * n, "rows": n * (blocks + 1)})
        exact = Units(blocks, {"pairs": 1.2 * n * lists * d, "rows": n * (blocks + 1)})
        return Work([[tiles], [exact]], 12 * n * lists + 24 * n * self.spans * (lists + 2 * self.margin))


def plan(
    vectors: Vectors,
    folder: str,
    near: int,
    far: int,
    block: int = 0,
    workers: int = 1,
    spans: int = 0,
    margin: int = 16,
    device: str = "cpu",
    products: Kind = "fp32",
    share: float = 1.0,
) -> Plan:
    """block, spans: 0: chosen. workers: who share the blocks."""
    rows = len(vectors)
    most, room = (BLOCK, 1 << 31) if device == "cpu" else (DEVICE_BLOCK, 1 << 32)
    block = block or max(1, min(most, room // (8 * vectors.dimension), -(-rows // workers)))
    blocks = -(-rows // block)
    spans = min(blocks, spans or max(1, -(-2 * workers // blocks)))
    scratch = storage.join(folder, f"tiles-{block}-{spans}-{margin}")
    where = device, products, share
    return Plan(vectors.folder, scratch, near, far, rows, block, margin, spans, *where, ahead=1 + workers // spans)


class Worker(units.Worker):
    """One actor's state: the vectors' blocks."""

    plan: Plan

    def __init__(self, plan: Plan, mean: Array) -> None:
        self.plan, self.vectors = plan, Vectors(plan.descriptors)
        d, centre = self.vectors.dimension, torch.from_numpy(mean)
        self.fine, self.kappa, self.least = bounds.kappa(d), bounds.kappa(d, kind=plan.products), bounds.least(d)
        self.blocks: Blocks
        if plan.device == "cpu":
            self.blocks = OfHost(self.vectors, centre, plan.block)
        else:
            self.blocks = OfDevice(self.vectors, centre, torch.device(plan.device), plan.products, plan.share)

    def tile(self, number: int) -> None:
        """Near and far candidates of a query block within a span, from one pass over each block product; a list of
        length 0 is left out."""
        plan, (block, span) = self.plan, divmod(number, self.plan.spans)
        at = plan.blocks[block]
        left = self.blocks.factors(at, at)
        a = self.blocks.squares(at)
        tops: list[tuple[str, int, Any]] = []
        for name, k, sign in (("near", plan.near, -1), ("far", plan.far, 1)):
            if k:
                tops.append((name, sign, self.blocks.tops(len(left), k + plan.margin, sign > 0)))
        last, norms = tops[-1][0], np.zeros(plan.rows)
        for other in plan.span(span):
            right = self.blocks.factors(other, at)
            b = norms[slice(*other)] = self.blocks.squares(other)
            p = bounds.inner(left, right, kind=plan.products).mul_(-2)
            for name, sign, top in tops:
                wide = (1 + sign * self.kappa) * b + sign * self.least
                own = torch.from_numpy(wide.astype(np.float32)).to(p.device)
                bound = p.add_(own) if name == last else p + own  # the last one needs no copy of the products
                _leave_out(bound, at, other[0], self.blocks.valid(other), sign * float("-inf"))
                top.add(bound, other[0])
        saved = {"valid": self.blocks.valid(at)}
        for name, sign, top in tops:
            values, columns = top.result()
            saved[f"{name}_bounds"] = -sign * (values.astype(np.float64) + (1 + sign * self.kappa) * a[:, None])
            saved[f"{name}_widths"] = 2 * (self.kappa * (a[:, None] + norms[columns]) + self.least)
            saved[f"{name}_columns"] = columns
        save_arrays(plan.path(("tile", number)), **saved)

    def lists(self, block: int) -> dict[str, Any]:
        """Merge a query block's tiles, recompute the finalists exactly, save its lists."""
        plan, at = self.plan, self.plan.blocks[block]
        self.wait(*plan.tiles(block))
        tiles = [load_arrays(plan.path(tile)) for tile in plan.tiles(block)]
        sides = {}
        for name, k in (("near", plan.near), ("far", plan.far)):
            parts = [Candidates(*(t[f"{name}_{what}"] for what in ("bounds", "widths", "columns"))) for t in tiles]
            sign = 1 if name == "near" else -1
            sides[name] = _Side(Candidates.merge(parts), k, sign, tiles[0]["valid"], at[0], self.vectors.private)
        for other in plan.blocks:
            extra = {name: self._unproved(side, at, other) for name, side in sides.items() if len(side.open)}
            x, y = self.blocks.stored(at, at), self.blocks.stored(other, at)
            for name, side in sides.items():
                side.take(partial(self.blocks.distances, x, y), *other, extra.get(name, {}))
        saved = {"valid": tiles[0]["valid"]}
        for name, side in sides.items():
            columns, saved[f"{name}_distance"] = side.lists()
            saved[name] = columns.astype(np.int32)
        save_arrays(plan.path(("lists", block)), **saved)
        return {f"{name}_widened": len(side.open) for name, side in sides.items()}

    def _unproved(self, side: _Side, at: tuple[int, int], other: tuple[int, int]) -> dict[int, Array]:
        """Row -> other columns within its reach, for the rows that the candidates do not suffice for."""
        x, y = self.blocks.centred(at, at), self.blocks.centred(other, at)
        private, good, found = self.vectors.private, self.blocks.valid(other), dict[int, Array]()
        b = bounds.squared_norms(y) + private[slice(*other)]
        for rows in np.split(side.open, range(OPEN, len(side.open), OPEN)):
            some = x[rows]
            a = bounds.squared_norms(some) + private[at[0] + rows]
            lower = side.sign * (a[:, None] + b - 2.0 * bounds.inner(some, y).cpu().numpy())
            lower -= self.fine * (a[:, None] + b) + self.least
            for row, within in zip(rows.tolist(), (lower <= side.reach[rows][:, None]) & good, strict=True):
                columns = np.flatnonzero(within) + other[0]
                found[row] = columns[columns != at[0] + row]
        return found


def _leave_out(bound: Tensor, at: tuple[int, int], start: int, good: Array, value: float) -> None:
    """Strike out the queries themselves and the rows without a vector."""
    bound[:, ~good] = value
    same = np.arange(max(at[0], start), min(at[1], start + bound.shape[1]))
    bound[same - at[0], same - start] = value


class _Side:
    """One of the two lists of a query block while the database streams past: `sign` 1 near, -1 far."""

    def __init__(self, candidates: Candidates, k: int, sign: int, valid: Array, first: int, private: Array) -> None:
        self.k, self.sign, self.candidates, self.first, self.private = k, sign, candidates, first, private
        self.reach, self.finalists, certified = candidates.judge(k)
        self.finalists &= valid[:, None]
        self.open = np.flatnonzero(~certified & valid)
        self.finalists[self.open] = False  # all within reach are taken for these rows
        self.exact = np.full(self.finalists.shape, sign * np.inf)
        self.rest = {int(row): (np.empty(0), np.empty(0, np.int64)) for row in self.open}  # distances, columns

    def take(self, distances: Distances, start: int, stop: int, extra: dict[int, Array]) -> None:
        """Exact distances to this block's finalists, rows start to stop of the database."""
        c = self.candidates.columns
        rows, places = np.nonzero(self.finalists & (c >= start) & (c < stop))
        self.exact[rows, places] = self._distances(distances, rows, c[rows, places], start)
        if not extra:
            return
        counts = [len(columns) for columns in extra.values()]
        each = np.repeat(list(extra), counts), np.concatenate(list(extra.values()))
        parts = np.split(self._distances(distances, *each, start), np.cumsum(counts)[:-1])
        for (row, columns), found in zip(extra.items(), parts, strict=True):
            known, there = self.rest[row]
            found, columns = np.concatenate([known, found]), np.concatenate([there, columns])
            best = np.lexsort((columns, self.sign * found))[: self.k]
            self.rest[row] = found[best], columns[best]

    def _distances(self, distances: Distances, rows: Array, columns: Array, start: int) -> Array:
        """`distances`: to the database from row `start` on."""
        found = distances(rows, columns - start)
        found += self.private[self.first + rows] + self.private[columns]
        return found

    def lists(self) -> tuple[Array, Array]:
        """(columns int64 n k, distances float64 n k), best first, ties by column; -1, infinity: none."""
        order = np.lexsort((self.candidates.columns, self.sign * self.exact), axis=1)[:, : self.k]
        distances = np.take_along_axis(self.exact, order, 1)
        columns = np.where(np.isinf(distances), -1, np.take_along_axis(self.candidates.columns, order, 1))
        for row, (found, there) in self.rest.items():
            distances[row, : len(found)], columns[row, : len(found)] = found, there
        return columns, distances
