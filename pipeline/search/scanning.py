"""The k best rows of some queries while blocks of others stream past: float32 products nominate, float64 differences
decide. `sign` is 1 for the nearest, -1 for the furthest; ties go to the lower position.

With the bounds of `bounds`, L = sign (a + b - 2 x.y) - kappa (a + b) is not above sign times the true squared
distance, and L + 2 kappa (a + b) not below it; here kappa is twice as wide, which covers the roundings of what is
compared. A row with L above a query's k-th smallest upper bound so far is not in its list.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from pipeline.search import bounds
from pipeline.search.best import Best
from pipeline.search.bounds import Array
from pipeline.search.rows import GroupedRows

QUERIES = 2048
"""Queries of one product."""
ROWS = 1024
"""Rows of one product: 8 MB of scores."""


class Queries:
    """Rows whose neighbours are sought."""

    def __init__(self, x: Array, own: Array, centre: Array, private: Array) -> None:
        """x: float32 n d. own: int64 n, their positions, left out of their lists. centre: float32 d, any. private:
        float64 N, of all rows (`rows.Rows.private`)."""
        self.x, self.own, self.centre, self.private = x, own, centre, private[own]
        self.centred = x - centre
        self.squares = squares(x, centre) + self.private

    def __len__(self) -> int:
        return len(self.x)


class Rows:
    """A block of the rows that are searched."""

    def __init__(self, y: Array, columns: Array, centre: Array, private: Array) -> None:
        """y: float32 m d. columns: int64 m, their positions. private: float64 N, of all rows."""
        self.y, self.columns, self.private = y, columns, private[columns]
        self.centred, self.squares = y - centre, squares(y, centre) + self.private
        self._order = np.argsort(columns, kind="stable")

    def __len__(self) -> int:
        return len(self.y)

    def places(self, own: Array) -> tuple[Array, Array]:
        """(queries, places of their own rows here) for those of the positions `own` that are here."""
        ordered = self.columns[self._order]
        found = np.minimum(np.searchsorted(ordered, own), len(ordered) - 1)
        there = np.flatnonzero(ordered[found] == own)
        return there, self._order[found[there]]


def distances(queries: Queries, rows: Rows, i: Array, j: Array) -> Array:
    """float64: exact squared distances of the pairs of queries i and rows j."""
    found = bounds.exact(queries.x, rows.y, i, j)
    found += queries.private[i] + rows.private[j]
    return found


def squares(x: Array, centre: Array) -> Array:
    """float64 n: squared distances to the centre; each row's by itself, whatever rows are given with it."""
    result = np.empty(len(x))
    for start in range(0, len(x), ROWS):
        v = x[start : start + ROWS].astype(np.float64) - centre
        np.multiply(v, v, out=v)
        result[start : start + ROWS] = v.sum(axis=1)
    return result


def scan(best: Best, queries: Queries, some: Array, rows: Rows) -> int:
    """Take from `rows` all that may be in the lists of the queries `some` (int64); returns the pairs recomputed."""
    if not len(rows):
        return 0
    kappa, sign, taken = 2 * bounds.kappa(rows.y.shape[1]), best.sign, 0
    least = 2 * bounds.least(rows.y.shape[1])
    scaled = torch.from_numpy(((sign - kappa) * rows.squares - least).astype(np.float32))
    for start in range(0, len(some), QUERIES):
        part = some[start : start + QUERIES]
        scores = torch.from_numpy(bounds.products(queries.centred[part], rows.centred))
        scores.mul_(-2 * sign).add_(scaled)
        scores[queries_and_places(rows, queries.own[part])] = torch.inf
        a = (sign - kappa) * queries.squares[part]
        limits = best.limits[part]
        if best.k <= len(rows) and np.isinf(limits).any():  # later few pass the limits that there are
            values, columns = scores.topk(best.k, dim=1, largest=False, sorted=False)
            widths = 2 * kappa * (queries.squares[part, None] + rows.squares[columns.numpy()]) + 2 * least
            limits = np.minimum(limits, (values.numpy() + a[:, None] + widths).max(axis=1))
        reach = torch.from_numpy(np.nextafter((limits - a).astype(np.float32), np.float32(np.inf)))
        likely = torch.nonzero(scores.amin(dim=1) <= reach).squeeze(1)
        near = (scores[likely] <= reach[likely, None]) & (scores[likely] < torch.inf)
        i, j = (v.numpy() for v in torch.nonzero(near, as_tuple=True))
        found = part[likely.numpy()[i]]
        best.take(found, rows.columns[j], distances(queries, rows, found, j))
        taken += len(found)
    return taken


def queries_and_places(rows: Rows, own: Array) -> tuple[torch.Tensor, torch.Tensor]:
    """`Rows.places` as an index of the scores."""
    there, places = rows.places(own)
    return torch.from_numpy(there), torch.from_numpy(places)


def blocks(vectors: GroupedRows, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Array, Array]]:
    """(first position, float32 n d, valid bool n) of every row group in order; of those within start and stop."""
    for first, last in vectors.bounds:
        if first >= start and last <= (len(vectors) if stop is None else stop):
            yield (first, *vectors.rows(first, last))


def exhaustive(vectors: GroupedRows, own: Array, k: int, sign: int, centre: Array) -> Best:
    """The exact lists of the rows at `own` (int64, ascending), from one pass over all rows."""
    queries = Queries(vectors.take(own)[0], own, centre, vectors.private)
    best, every = Best(len(own), k, sign), np.arange(len(own))
    for first, y, valid in blocks(vectors):
        good = np.flatnonzero(valid)
        for start in range(0, len(good), ROWS):
            some = good[start : start + ROWS]
            scan(best, queries, every, Rows(y[some], some + first, centre, vectors.private))
    return best
