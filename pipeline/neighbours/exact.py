"""The k closest (a row itself left out) and k furthest of every row, exact.

Work is cut into tiles of one query block by one span of database blocks; a tile's candidates are a small file, joined
by an associative merge, so that tiles may be done in any order, on any worker, and again. Then each query block streams
the database once more and recomputes its finalists exactly (pipeline.search says why that is enough).

Memory of a worker: `Plan.worker_bytes`: two blocks of vectors, their products; not of the number of images but for 40
bytes each.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import faiss
import numpy as np
import torch
from torch import Tensor

from pipeline.artifacts import storage
from pipeline.neighbours import units
from pipeline.neighbours.units import Item, Units, Work, load_arrays, save_arrays
from pipeline.search import best, bounds
from pipeline.search.best import Candidates
from pipeline.search.bounds import Array
from pipeline.style.vectors import Vectors

BLOCK = 4096
"""Rows of a block at most."""


@dataclass(frozen=True)
class Plan(units.Plan):
    """What every worker of the exact search needs to know; database blocks are as large as query blocks. Units are
    ("tile", query block x spans + span) and the lists."""

    margin: int
    """Candidates kept beyond k."""
    spans: int
    """Runs of database blocks that a query block's tiles are spread over."""
    device: str = "cpu"
    """Where products are taken and the best are kept: `cuda` within an actor that has a GPU. Not FAISS's own search on
    a GPU: it has no furthest, and one product would not serve both lists."""

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
) -> Plan:
    """block, spans: 0: chosen. workers: who share the blocks."""
    rows = len(vectors)
    block = block or max(1, min(BLOCK, (1 << 31) // (8 * vectors.dimension), -(-rows // workers)))
    blocks = -(-rows // block)
    spans = min(blocks, spans or max(1, -(-2 * workers // blocks)))
    scratch = storage.join(folder, f"tiles-{block}-{spans}-{margin}")
    return Plan(vectors.folder, scratch, near, far, rows, block, margin, spans, device, ahead=1 + workers // spans)


class Worker(units.Worker):
    """One actor's state: the vectors, their mean, and the query block in hand."""

    plan: Plan

    def __init__(self, plan: Plan, mean: Array) -> None:
        faiss.omp_set_num_threads(torch.get_num_threads())
        self.device = torch.device(plan.device)
        self.plan, self.mean = plan, torch.from_numpy(mean)
        self.vectors = Vectors(plan.descriptors)
        self.kappa, self.least = bounds.kappa(self.vectors.dimension), bounds.least(self.vectors.dimension)
        size = (min(plan.block, plan.rows), self.vectors.dimension)
        self._room = np.empty(size, np.float32), np.empty(size, np.float32)
        self._query: tuple[tuple[int, int], bool] | None = None
        self._valid = np.empty(0, bool)
        self._norms: dict[int, Array] = {}  # of the blocks seen, by first row: 8 bytes an image

    def _block(self, at: tuple[int, int], room: Array, centred: bool) -> tuple[Array, Array]:
        x, valid = self.vectors.rows(*at, out=room)
        if centred:
            torch.from_numpy(x).sub_(self.mean)
            x[~valid] = 0
        return x, valid

    def _queries(self, at: tuple[int, int], centred: bool) -> tuple[Array, Array]:
        if self._query != (at, centred):
            _, self._valid = self._block(at, self._room[0], centred)
            self._query = (at, centred)
        return self._room[0][: at[1] - at[0]], self._valid

    def _others(self, at: tuple[int, int], queries: tuple[int, int], centred: bool) -> tuple[Array, Array]:
        """A database block; the query block in hand is not read again."""
        return self._queries(at, centred) if at == queries else self._block(at, self._room[1], centred)

    def _squares(self, x: Array, start: int) -> Array:
        """float64 n: squared norms of the centred block from row `start` on, with what each row has to itself."""
        if start not in self._norms:
            self._norms[start] = bounds.squared_norms(x) + self.vectors.private[start : start + len(x)]
            bounds.must_be_finite(self._norms[start], self.plan.descriptors)
        return self._norms[start]

    def tile(self, number: int) -> None:
        """Near and far candidates of a query block within a span, from one pass over each block product; a list of
        length 0 is left out."""
        plan, (block, span) = self.plan, divmod(number, self.plan.spans)
        at = plan.blocks[block]
        x, valid = self._queries(at, centred=True)
        a = self._squares(x, at[0])
        left = torch.from_numpy(x).to(self.device)
        heaps: list[tuple[str, int, Any]] = []
        for name, k, sign in (("near", plan.near, -1), ("far", plan.far, 1)):
            if k:
                given = len(x), k + plan.margin, sign > 0
                on_cpu = self.device.type == "cpu"
                heaps.append((name, sign, best.Heaps(*given) if on_cpu else best.Tops(*given, self.device)))
        last, norms = heaps[-1][0], np.zeros(plan.rows)
        for start, stop in plan.span(span):
            y, good = self._others((start, stop), at, centred=True)
            b = norms[start:stop] = self._squares(y, start)
            p = bounds.inner(left, torch.from_numpy(y).to(self.device)).mul_(-2)
            for name, sign, heap in heaps:
                wide = (1 + sign * self.kappa) * b + sign * self.least
                own = torch.from_numpy(wide.astype(np.float32)).to(self.device)
                bound = p.add_(own) if name == last else p + own  # the last one needs no copy of the products
                _leave_out(bound, at, start, good, sign * float("-inf"))
                heap.add(bound, start)
        saved = {"valid": valid}
        for name, sign, heap in heaps:
            values, columns = heap.result()
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
        for start, stop in plan.blocks:
            extra = {name: self._unproved(side, at, (start, stop)) for name, side in sides.items() if len(side.open)}
            x, _ = self._queries(at, centred=False)
            y, _ = self._others((start, stop), at, centred=False)
            for name, side in sides.items():
                side.take(x, y, start, stop, extra.get(name, {}))
        saved = {"valid": tiles[0]["valid"]}
        for name, side in sides.items():
            columns, saved[f"{name}_distance"] = side.lists()
            saved[name] = columns.astype(np.int32)
        save_arrays(plan.path(("lists", block)), **saved)
        return {f"{name}_widened": len(side.open) for name, side in sides.items()}

    def _unproved(self, side: _Side, at: tuple[int, int], other: tuple[int, int]) -> dict[int, Array]:
        """Row -> columns within its reach, for the rows that the candidates do not suffice for."""
        x, _ = self._queries(at, centred=True)
        y, good = self._others(other, at, centred=True)
        private = self.vectors.private
        a = bounds.squared_norms(x[side.open]) + private[at[0] + side.open]
        b = bounds.squared_norms(y) + private[other[0] : other[1]]
        lower = side.sign * (a[:, None] + b - 2.0 * bounds.products(x, y, side.open))
        lower -= self.kappa * (a[:, None] + b) + self.least
        within = (lower <= side.reach[side.open][:, None]) & good
        return {int(r): np.flatnonzero(w) + other[0] for r, w in zip(side.open, within, strict=True)}


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

    def take(self, x: Array, y: Array, start: int, stop: int, extra: dict[int, Array]) -> None:
        """Exact distances to this block's finalists (rows start to stop of the database are `y`)."""
        c = self.candidates.columns
        rows, places = np.nonzero(self.finalists & (c >= start) & (c < stop))

        def some(pairs: Array) -> None:
            at = rows[pairs], places[pairs]
            self.exact[at] = self._distances(x, y, rows[pairs], c[at], start)

        count = torch.get_num_threads()
        with ThreadPoolExecutor(count) as threads:  # numpy lets other threads run meanwhile
            list(threads.map(some, np.array_split(np.arange(len(rows)), count)))
        for row, columns in extra.items():
            columns = columns[columns != row + self.first]
            found = self._distances(x, y, np.full(len(columns), row), columns, start)
            known, there = self.rest[row]
            found, columns = np.concatenate([known, found]), np.concatenate([there, columns])
            best = np.lexsort((columns, self.sign * found))[: self.k]
            self.rest[row] = found[best], columns[best]

    def _distances(self, x: Array, y: Array, rows: Array, columns: Array, start: int) -> Array:
        """`y`: the database from row `start` on."""
        found = bounds.exact(x, y, rows, columns - start)
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
