"""IMLE's matching among shared samples: the exact nearest pool row of each query, in one pass over blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.search.bounds import LARGEST, PIECE, Array, exact, kappa, products

SCORES = 1 << 24
"""Scores of a block of `match`: 64 MB of float32."""


BLOCK = 1024
"""Pool rows of a block of `match` at most: scores that the caches hold are read again for little."""


KEPT = 8
"""Pool rows that `match` keeps of each query; where they do not prove the nearest, float64 does."""


class Bounds:
    """Lower bounds of the squared distances from some rows to blocks of others, in the precision of `kind`."""

    def __init__(self, x: Array, centre: Array, kind: type[np.floating[Any]]) -> None:
        """x: n D. centre: D, anything; near the others' mean the bounds are narrow."""
        unit, dimension = float(np.finfo(kind).eps) / 2, x.shape[1]
        self.kappa = kappa(dimension + 2, unit)
        # Roundings of x, its norm and the last sum; of `distances`, whose sums take pieces that numpy halves.
        self.own = 8 * unit + (64 + dimension / PIECE) * 2.0**-53
        self.least = 4 * (dimension + 2) * float(np.finfo(kind).tiny)  # what underflows
        self.centre, self.kind = centre, kind
        self.left, self.norms = self._rows(x)
        self.left[:, :-2] *= -2
        self.left[:, -2], self.left[:, -1] = 1, self.norms
        self.squares = torch.from_numpy(((1 - self.own) * self.norms**2 - self.least).astype(kind))[:, None]

    def _rows(self, x: Array) -> tuple[Array, Array]:
        """(centred rows with room for two columns more, their norms float64)."""
        room = torch.empty(len(x), x.shape[1] + 2, dtype=torch.from_numpy(np.empty(0, self.kind)).dtype)
        rows = torch.sub(torch.from_numpy(x), torch.from_numpy(self.centre), out=room[:, :-2])
        norms = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).numpy()
        if not (norms < LARGEST).all():
            raise ValueError(f"match: a query or a pool row is not finite, or over {LARGEST:g} from the pool's mean")
        return room.numpy(), norms

    def lower(self, y: Array, out: Tensor | None = None) -> tuple[Tensor, Array]:
        """m D -> (bounds n m, norms of the centred rows float64 m). `out`: room of at least n m; float32 needs
        it: without one autocast would turn its products into bfloat16's."""
        right, norms = self._rows(y)
        right[:, -2], right[:, -1] = (1 - 2 * self.kappa) * norms**2, -2 * self.kappa * norms
        if out is not None:
            out = out[: len(self.left) * len(y)].view(len(self.left), len(y))
        return torch.from_numpy(products(self.left, right, out=out)).add_(self.squares), norms

    def widths(self, x: Array | float, y: Array) -> Array:
        """Norms of x and y -> upper minus lower bounds."""
        widths: Array = 4 * self.kappa * y * (x + y) + 2 * self.own * x**2 + 2 * self.least
        return widths


@dataclass(frozen=True)
class Matched:
    """The nearest samples of some data."""

    index: Int[Tensor, " Q"]
    """Pool row of each query."""
    distance: Float[Tensor, " Q"]
    """float64: Euclidean distance to it."""
    rejected: int
    """Pool rows closer than epsilon to a query of their group."""
    forced: int
    """Queries all of whose pool was rejected."""


def match(
    queries: Float[Tensor, "Q D"],
    pool: Float[Tensor, "P D"],
    epsilon: float = 0.0,
    query_groups: Int[Tensor, " Q"] | None = None,
    pool_groups: Int[Tensor, " P"] | None = None,
) -> Matched:
    """The pool row with the smallest Euclidean distance (in float64) to each query, ties to the lower row: IMLE's
    matching (Li, Malik, "Implicit Maximum Likelihood Estimation", 2018, arXiv 1809.09087, Algorithm 1).

    `epsilon`: a distance; pool rows closer than it to any query may not be chosen (Vashist, Peng, Li, "Rejection
    Sampling IMLE", ECCV 2024, arXiv 2409.17439); 0: all may. Where that leaves none, every query gets the pool row that
    is furthest from its nearest query, ties to the lower row.

    Groups: a query is matched, and rejects, only among the pool rows of its own group.

    One pass over the pool, in blocks, beside a float32 copy of the queries: 64 MB of scores and 64 MB of pool rows.

    Raises:
        ValueError: an empty pool or group, unequal dimensions, a value that is not finite, a negative epsilon.
    """
    if len(pool) == 0 or queries.shape[1] != pool.shape[1]:
        raise ValueError(f"match: queries {tuple(queries.shape)}, pool {tuple(pool.shape)}: want Q D and P D, P > 0")
    if not 0 <= epsilon < float("inf"):
        raise ValueError(f"match: epsilon {epsilon}: give a distance of at least 0, and finite")
    x, y = (t.detach().cpu() for t in (queries, pool))
    if {x.dtype, y.dtype} != {torch.float32}:
        x, y = x.double(), y.double()
    index, squares = torch.zeros(len(x), dtype=torch.int64), torch.zeros(len(x), dtype=torch.float64)
    rejected = forced = 0
    for mine, theirs in _groups(x, y, query_groups, pool_groups):
        own = y[theirs].contiguous().numpy()
        found, square, out = _solve(x[mine].contiguous().numpy(), own, epsilon)
        index[mine] = torch.arange(len(y))[theirs][torch.from_numpy(found)]
        squares[mine] = torch.from_numpy(square)
        rejected += out
        forced += len(found) if out == len(own) else 0
    return Matched(index, squares.sqrt(), rejected, forced)


def _groups(
    x: Tensor, y: Tensor, mine: Tensor | None, theirs: Tensor | None
) -> Iterator[tuple[slice | Tensor, slice | Tensor]]:
    """(query rows, pool rows) of each group with a query, rows ascending."""
    if mine is None and theirs is None:
        if len(x):
            yield slice(None), slice(None)
        return
    for name, groups, rows in (("query_groups", mine, x), ("pool_groups", theirs, y)):
        if groups is None or groups.shape != rows.shape[:1]:
            shape = None if groups is None else tuple(groups.shape)
            raise ValueError(f"match: {name} of shape {shape}: give one for each of {len(rows)} rows, or no groups")
    assert mine is not None and theirs is not None
    orders = [torch.argsort(groups.cpu(), stable=True) for groups in (mine, theirs)]
    names, counts = np.unique(mine.cpu().numpy(), return_counts=True)
    own = theirs.cpu().numpy()[orders[1].numpy()]
    starts, stops = (np.searchsorted(own, names, side) for side in ("left", "right"))
    if (starts == stops).any():
        raise ValueError(f"match: group {names[starts == stops][0]} has queries and no pool row: give it some")
    for rows, start, stop in zip(torch.split(orders[0], counts.tolist()), starts, stops, strict=True):
        yield rows, orders[1][start:stop]


def _solve(x: Array, y: Array, epsilon: float) -> tuple[Array, Array, int]:
    """One group: (pool row of each query, squared distance to it, number of pool rows rejected)."""
    bounds = Bounds(x, _centre(y), np.float32)
    margin = 1e-12 * epsilon * epsilon + float(np.finfo(np.float64).tiny)  # of its square's rounding
    limit = epsilon * epsilon + margin if epsilon else 0.0
    nominees = _Nominees(bounds, len(y))
    every = np.arange(len(y))
    lowest = nominees.stream(y, every, limit)
    allowed = np.ones(len(y), bool)
    if epsilon:
        highest = lowest + bounds.widths(bounds.norms.max(), nominees.norms)
        allowed = highest >= epsilon * epsilon - margin
        unsure = every[allowed & (lowest < limit)]
        if len(unsure):
            allowed[unsure] = np.sqrt(_solve(y[unsure], x, 0.0)[1]) >= epsilon
            late = unsure[allowed[unsure]]
            nominees.stream(y[late], late, 0.0)
        if not allowed.any():
            far = every[highest >= lowest.max()]
            chosen = np.full(len(x), far[_solve(y[far], x, 0.0)[1].argmax()])
            return chosen, exact(x, y, np.arange(len(x)), chosen), len(y)
    best = _Best(len(x))
    rows, columns, rest = nominees.decide()
    best.take(rows, columns, exact(x, y, rows, columns))
    if len(rest):
        kept = every[allowed]
        kept = kept[_distinct(y, kept, nominees.norms[kept])]
        for some in np.array_split(rest, -(-len(rest) // BLOCK)):
            _settle(best, x, y, some, kept, nominees.reach[some])
    return best.columns, best.squares, int((~allowed).sum())


def _centre(y: Array) -> Array:
    """The mean of about a thousand rows, in their precision."""
    mean: Array = y[:: max(1, len(y) // 1000)].mean(axis=0, dtype=np.float64)
    return mean.astype(y.dtype)


def _step(rows: int, dimension: int) -> int:
    """Pool rows of a block: their scores against `rows` and their numbers are few enough."""
    return max(1, min(BLOCK, SCORES // max(rows, dimension + 2)))


class _Nominees:
    """Of each query the pool rows with the lowest bounds, while the pool streams past."""

    def __init__(self, bounds: Bounds, pool: int) -> None:
        queries = len(bounds.norms)
        self.bounds, self.norms = bounds, np.zeros(pool)
        self.values, self.columns = np.full((queries, KEPT), np.inf), np.full((queries, KEPT), -1)
        self.reach = np.full(queries, np.inf)  # upper bound of each query's smallest squared distance

    def stream(self, y: Array, columns: Array, limit: float) -> Array:
        """Take `y`, these rows of the pool, and return the lowest bound of each over the queries. Those that have one
        below `limit`, a squared distance, are not nominated; 0: all are, and no lowest bound is taken."""
        queries, lowest = len(self.reach), np.zeros(len(columns))
        step = _step(queries, y.shape[1])
        out = torch.empty(queries * min(step, len(columns)))
        for start in range(0, len(columns), step):
            some = columns[start : start + step]
            scores, self.norms[some] = self.bounds.lower(y[start : start + step], out)
            if limit:
                lowest[start : start + step] = scores.amin(dim=0).numpy()
                close = np.flatnonzero(lowest[start : start + step] < limit)
                scores.index_fill_(1, torch.from_numpy(close), torch.inf)
            self._add(scores, some)
        return lowest

    def _add(self, scores: Tensor, columns: Array) -> None:
        rows = np.flatnonzero(scores.amin(dim=1).numpy() <= self.reach)  # after some blocks there are few
        found, places = scores[torch.from_numpy(rows)].topk(min(KEPT, len(columns)), largest=False)
        values = np.hstack([self.values[rows], found.numpy()])
        columns = np.hstack([self.columns[rows], columns[places.numpy()]])
        order = np.argsort(values, axis=1)[:, :KEPT]
        self.values[rows], self.columns[rows] = (np.take_along_axis(v, order, 1) for v in (values, columns))
        widths = self.bounds.widths(self.bounds.norms[rows, None], self.norms[self.columns[rows]])
        self.reach[rows] = (self.values[rows] + widths).min(axis=1)

    def decide(self) -> tuple[Array, Array, Array]:
        """(rows, columns of the pairs that may be the nearest; rows for which pairs were left out that may be)."""
        proved = self.values[:, -1] > self.reach
        rows, places = np.nonzero((self.values <= self.reach[:, None]) & proved[:, None])
        return rows, self.columns[rows, places], np.flatnonzero(~proved)


class _Best:
    """The closest column of each row among those seen, ties to the lower."""

    def __init__(self, rows: int) -> None:
        self.columns, self.squares = np.full(rows, -1), np.full(rows, np.inf)

    def take(self, rows: Array, columns: Array, squares: Array) -> None:
        """Pairs and their squared distances, in any order; of a row no column below those seen before."""
        order = np.lexsort((columns, squares, rows))
        rows, first = np.unique(rows[order], return_index=True)
        columns, squares = columns[order[first]], squares[order[first]]
        better = squares < self.squares[rows]
        self.columns[rows[better]], self.squares[rows[better]] = columns[better], squares[better]


def _distinct(y: Array, rows: Array, norms: Array) -> Array:
    """Places in `rows` of those that no lower row equals; a few equal ones may stay."""
    order = np.argsort(norms, kind="stable")
    same = np.append(False, np.diff(norms[order]) == 0)
    leaders = order[np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))]
    keep = np.ones(len(rows), bool)
    for place in np.flatnonzero(same):
        keep[order[place]] = not np.array_equal(y[rows[order[place]]], y[rows[leaders[place]]])
    return np.flatnonzero(keep)


def _settle(best: _Best, x: Array, y: Array, rows: Array, columns: Array, reach: Array) -> None:
    """Rows of x that float32 could not decide, among these columns: bounds in float64 leave hardly more than ties.
    `reach`: an upper bound of each row's smallest squared distance."""
    bounds = Bounds(x[rows], _centre(y).astype(np.float64), np.float64)
    every = np.arange(len(rows))
    step = _step(len(rows), x.shape[1])
    for start in range(0, len(columns), step):
        there = columns[start : start + step]
        scores, norms = bounds.lower(y[there])
        lower = scores.numpy()
        first = lower.argmin(axis=1)
        reach = np.minimum(reach, lower[every, first] + bounds.widths(bounds.norms, norms[first]))
        places, at = np.nonzero(lower <= reach[:, None])
        best.take(rows[places], there[at], exact(x, y, rows[places], there[at]))
