"""Exact lists that compare few of the rows: a sketch's bounds prove the others out of reach.

With p the coordinates of a row in the first principal directions, r the norm of what they leave out,

    |p_x - p_y|^2 + (r_x - r_y)^2 <= d(x, y)^2 <= |p_x - p_y|^2 + (r_x + r_y)^2        (Cauchy, Schwarz),

and with a = |p_x|^2 + r_x^2, b likewise, the bounds are a + b - 2 p_x.p_y -+ 2 r_x r_y: one float32 product and a
rank-1 term for both lists. A row whose lower bound is above a query's k-th smallest upper bound is not among its
nearest, one whose upper bound is below the k-th largest lower bound not among its furthest. The rest are recomputed as
float64 differences, so that the lists are those of pipeline.exact.

Slack of the bounds, relative to a + b: SLACK times (m + 17) u for the roundings of m + 1 columns and their sums (u =
2^-24; pipeline.search), and four times the spectral norm by which the directions miss being orthonormal (coordinates
are then off by half of it). p is computed in float64.

Units of work, each a published file: `fit` (directions of a sample), `project` (a run of the artifact's parts), `lists`
(a query block). Memory of a worker: `Plan.worker_bytes`; the projections, 4 (m + 1) bytes an image, are mapped and
shared.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.artifacts import storage
from pipeline.neighbours import lists, units
from pipeline.neighbours.units import Item, Units, Work, load_arrays, save_arrays
from pipeline.search import bounds, scanning
from pipeline.search.best import Best
from pipeline.search.bounds import Array
from pipeline.style import sketches
from pipeline.style.sketches import NoDirections, SketchOptions
from pipeline.style.vectors import Vectors

SLACK = 4
PIECE_ROWS = 8192
"""Rows of a piece that is projected, at least."""
ROWS = 4096
"""Rows of one product."""
QUERIES = 1024
"""Queries of one product."""
SAMPLE = 4096
"""Rows at most that the directions are those of, and four a direction."""
OPEN = 64
"""Rows that each is compared with, as the plan takes it; known only afterwards. Real pictures had 27 among 1,000 and 46
among 100,000 in the mean, up to 8 times that in a block."""


@dataclass(frozen=True)
class Plan(units.Plan):
    """What every worker needs to know."""

    directions: int
    """m; fewer where the sample shows fewer."""
    pieces: tuple[tuple[int, int], ...]
    """(first row, last + 1) of each run of parts."""

    @property
    def sample(self) -> int:
        return max(16, min(SAMPLE, 4 * self.directions))

    def units(self, blocks: list[int]) -> list[Item]:
        return [("fit", 0), *(("project", p) for p in range(len(self.pieces))), *(("lists", b) for b in blocks)]

    def worker(self, centre: Array) -> Worker:
        return Worker(self)

    def request(self, described: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        inputs, options = super().request(described)
        return inputs, {**options, "method": "certified", "directions": self.directions}

    def measure(self, lists: dict[str, Array]) -> dict[str, Any]:
        """All is proved, and by comparing what share of the other rows."""
        opened = np.concatenate([load_arrays(self.path(("lists", b)))["open"] for b in range(len(self.blocks))])
        valid = lists["far"][:, 0] >= 0
        share = opened[valid] / max(1, int(valid.sum()) - 1)
        found: dict[str, Any] = {"method": "certified", "certified_share": 1.0, "compared_share": float(share.mean())}
        return {**found, "compared_share_largest": float(share.max())}

    def worker_bytes(self, vectors: Vectors) -> int:
        n, d, m, lists = self.rows, vectors.dimension, self.directions, self.near + self.far
        opened = 24 * 3 * self.block * max(lists, 8 * min(OPEN, n))
        working = 4 * self.block * d + opened + 5 * 4 * QUERIES * ROWS + 60 * self.block * lists
        fitting = 16 * min(n, self.sample) ** 2 + 16 * m * d
        return max(working, fitting) + 12 * (m + 1) * n + 40 * n

    def work(self, vectors: Vectors) -> Work:
        n, d, m, lists = float(self.rows), vectors.dimension, self.directions, self.near + self.far
        sample, blocks = min(n, self.sample), len(self.blocks)
        fit = Units(1, {"products": 2 * sample * sample * d + 4 * m * sample * d, "rows": n})
        project = Units(len(self.pieces), {"products": 4 * n * m * d, "rows": n})  # in float64: twice as slow
        found = {"products": 2 * n * n * m, "scores": 2 * n * n, "pairs": max(min(OPEN, n), 1.2 * lists) * n * d}
        found["rows"] = n * (blocks + 1)
        written = 8 * n * (m + 2) + 12 * n * lists
        return Work([[fit], [project], [Units(blocks, found)]], written)


def plan(
    vectors: Vectors, folder: str, near: int, far: int, block: int = 0, workers: int = 1, directions: int = 256
) -> Plan:
    """block: 0: chosen. workers: who share the blocks."""
    rows = len(vectors)
    block = block or max(1, min(8192, (1 << 30) // (4 * vectors.dimension), -(-rows // workers)))
    scratch = storage.join(folder, f"tiles-certified-{block}-{directions}")
    pieces = units.pieces(vectors.part_rows, PIECE_ROWS)
    return Plan(vectors.folder, scratch, near, far, rows, block, directions, pieces)


class Worker(units.Worker):
    """One actor's state: the vectors, the directions, all projections."""

    plan: Plan

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.vectors = Vectors(plan.descriptors)
        self._projected: tuple[Array, Array] | None = None

    def fit(self, _number: int) -> dict[str, Any]:
        """Directions of a sample; any are right, the principal ones leave the least."""
        valid = self.vectors.valid
        try:
            options = SketchOptions(components=self.plan.directions, rows=self.plan.sample)
            made = sketches.principal(self.vectors, valid, options)
            mean, basis = made.mean, made.basis
        except NoDirections:  # the norms alone do
            mean, basis = lists.centre(self.vectors), np.zeros((0, self.vectors.dimension), np.float32)
        wide = basis.astype(np.float64)
        askew = float(np.linalg.norm(wide @ wide.T - np.eye(len(wide)), 2)) if len(wide) else 0.0
        save_arrays(self.plan.path(("fit", 0)), mean=mean, basis=basis, askew=np.array(askew), valid=valid)
        return {"directions": len(basis), "askew": askew}

    def project(self, number: int) -> dict[str, Any]:
        self.wait(("fit", 0))
        fitted = load_arrays(self.plan.path(("fit", 0)))
        basis, mean = torch.from_numpy(fitted["basis"]).double(), torch.from_numpy(fitted["mean"])
        start, stop = self.plan.pieces[number]
        columns = np.zeros((stop - start, len(basis) + 1), np.float32)
        squares = np.zeros(stop - start)
        for first, x, _ in scanning.blocks(self.vectors, start, stop):
            centred = (torch.from_numpy(x) - mean).double()
            p = (centred @ basis.T).numpy()
            at = slice(first - start, first - start + len(x))
            squares[at] = centred.square().sum(1).numpy() + self.vectors.private[first : first + len(x)]
            bounds.must_be_finite(squares[at], self.plan.descriptors)
            rest = np.sqrt(np.maximum(squares[at] - (p * p).sum(1), 0))
            columns[at] = np.hstack([p, rest[:, None]])
        save_arrays(self.plan.path(("project", number)), columns=columns, squares=squares)
        return {}

    def _all(self) -> tuple[Array, Array]:
        """(float32 N m + 1, float64 N) of all rows; who needs them first joins the pieces in a file to be mapped."""
        if self._projected is None:
            items = [("project", p) for p in range(len(self.plan.pieces))]
            self.wait(*items)
            path = storage.join(self.plan.scratch, "all.npy")
            loaded = [load_arrays(self.plan.path(item)) for item in items]
            if not storage.exists(path) or not self._sound(path, [piece["columns"] for piece in loaded]):
                with storage.temporary(path) as draft:
                    with open(draft, "wb") as file:
                        np.save(file, np.concatenate([piece["columns"] for piece in loaded]))
                    storage.publish_file(path, draft)
            self._projected = np.load(path, mmap_mode="r"), np.concatenate([piece["squares"] for piece in loaded])
        return self._projected

    def _sound(self, path: str, columns: list[Array]) -> bool:
        """Whether the joined file, which has no checksum, holds the pieces."""
        try:
            there = np.load(path, mmap_mode="r")
        except (ValueError, OSError):
            return False
        pieces = zip(self.plan.pieces, columns, strict=True)
        return len(there) == self.plan.rows and all(np.array_equal(there[a:b], part) for (a, b), part in pieces)

    def lists(self, block: int) -> dict[str, Any]:
        """Both lists of a query block."""
        start, stop = self.plan.blocks[block]
        began = time.perf_counter()
        self._all()
        rows, columns = self.open(start, stop)
        bounded = time.perf_counter()
        best = {"near": Best(stop - start, self.plan.near, 1), "far": Best(stop - start, self.plan.far, -1)}
        x, valid = self.vectors.rows(start, stop)
        order = np.argsort(columns, kind="stable")
        rows, columns, private = rows[order], columns[order], self.vectors.private
        for run, first, last in self.vectors.runs(columns):
            y, _ = self.vectors.rows(first, last)
            i, j = rows[run], columns[run]
            found = bounds.exact(x, y, i, j - first) + (private[start + i] + private[j])
            for side in best.values():
                side.take(i, j, found)
        saved: dict[str, Array] = {"valid": valid, "open": np.bincount(rows, minlength=stop - start)}
        for name, side in best.items():
            saved[name] = side.columns.astype(np.int32)
            saved[f"{name}_distance"] = np.where(side.columns >= 0, side.distances, np.nan)
        save_arrays(self.plan.path(("lists", block)), **saved)
        seconds = {"bound_seconds": bounded - began, "exact_seconds": time.perf_counter() - bounded}
        return {"open": len(rows), **seconds}

    def open(self, start: int, stop: int) -> tuple[Array, Array]:
        """(rows from `start` on, positions) of the pairs that the bounds leave open for either list, each once."""
        fitted = load_arrays(self.plan.path(("fit", 0)))
        valid, askew = fitted["valid"], float(fitted["askew"])
        rows, columns = [], []
        for first in range(start, stop, QUERIES):
            some = np.arange(first, min(first + QUERIES, stop))
            some = some[valid[some]]
            i, j = self._open_of(some, valid, askew)
            rows.append(some[i] - start)
            columns.append(j)
        return np.concatenate(rows), np.concatenate(columns)

    def _open_of(self, some: Array, valid: Array, askew: float) -> tuple[Array, Array]:
        every, squares = self._all()
        left = torch.from_numpy(np.array(every[some]))
        m = left.shape[1] - 1
        eta = SLACK * (m + 17) * bounds.UNIT + 4 * askew
        least = bounds.least(left.shape[1])
        tops = [_Top(len(some), k, eta, least, squares[some]) for k in (self.plan.near, self.plan.far)]
        for at in self._good_runs(valid):
            right = torch.from_numpy(np.array(every[at]))
            middle = torch.mm(left[:, :m], right[:, :m].T).mul_(-2).add_(torch.from_numpy(squares[at]).float())
            spread = torch.mm(left[:, m:], right[:, m:].T).mul_(2)
            own = np.searchsorted(at, some)
            there = np.flatnonzero((own < len(at)) & (at[np.minimum(own, len(at) - 1)] == some))
            strike = (torch.from_numpy(there), torch.from_numpy(own[there]))
            for top, sign in zip(tops, (1, -1), strict=True):
                # sign times the distance lies within sign * middle -+ spread (and a, which the row adds).
                centre = middle * sign
                centre[strike] = torch.inf
                top.take(centre, spread, at, squares[at])
        pairs = np.unique(np.concatenate([top.finish(self.plan.rows) for top in tops]))
        return pairs // self.plan.rows, pairs % self.plan.rows

    def _good_runs(self, valid: Array) -> Iterator[Array]:
        """Positions of rows with a vector, some at a time."""
        good = np.flatnonzero(valid)
        return (good[first : first + ROWS] for first in range(0, len(good), ROWS))


class _Top:
    """Which pairs one list leaves open, while blocks stream past; distances are signed so that small is wanted."""

    def __init__(self, queries: int, k: int, eta: float, least: float, squares: Array) -> None:
        self.k, self.eta, self.least, self.squares = k, eta, least, squares
        self.reach = np.full((queries, k), np.inf)  # the k smallest upper bounds, less a
        self.rows: list[Array] = []
        self.columns: list[Array] = []
        self.lower: list[Array] = []

    def take(self, centre: torch.Tensor, spread: torch.Tensor, at: Array, squares: Array) -> None:
        """centre, spread: float32 n m, half widths without rounding; those of a + b are added here."""
        slack = torch.from_numpy((self.eta * squares + self.least).astype(np.float32))
        upper = (centre + spread).add_(slack)
        found = upper.topk(min(self.k, upper.shape[1]), dim=1, largest=False).values.numpy().astype(np.float64)
        self.reach = np.sort(np.hstack([self.reach, found]), axis=1)[:, : self.k]
        lower = centre.sub_(spread).sub_(slack)
        limit = self._limit().astype(np.float32)
        i, j = (v.numpy() for v in torch.nonzero(lower <= torch.from_numpy(limit)[:, None], as_tuple=True))
        self.rows.append(i)
        self.columns.append(at[j])
        self.lower.append(lower.numpy()[i, j])

    def _limit(self) -> Array:
        """Of the lower bounds less a: the slack of a counts twice, float32's next number covers the comparison."""
        limit = self.reach[:, -1] + 2 * self.eta * self.squares
        wide: Array = np.where(np.isfinite(limit), limit + 4 * bounds.UNIT * np.abs(limit), np.finfo(np.float32).max)
        return wide

    def finish(self, rows: int) -> Array:
        """Open pairs as row x `rows` + column, by the final limits."""
        i, j, lower = (np.concatenate(v) for v in (self.rows, self.columns, self.lower))
        kept = lower <= self._limit()[i]
        pairs: Array = i[kept] * rows + j[kept]
        return pairs
