"""Exact nearest and furthest rows: float32 products nominate, float64 differences decide.

With centred vectors x, y of squared norms a, b the distance is a + b - 2 x.y. In float32, summed over chunks of CHUNK
numbers, the product's error is at most gamma_n |x| |y| with n = CHUNK + number of chunks, whatever order the library
sums in (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1); |x| |y| <= (a + b) / 2, and the
norms are summed in runs of RUN, the roundings of centring and sums are a few units in the last place of a + b. So the
true distance lies within

    a + b - 2 x.y -+ kappa (a + b),    kappa = gamma_n + gamma_RUN + 16 u,    gamma_n = n u / (1 - n u),    u = 2^-24.

A row that can be among the k nearest has a lower bound not above the k-th smallest upper bound. The rows that pass are
recomputed as direct float64 differences in a fixed order: the lists depend on the vectors alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK = 4096
"""Numbers that one float32 product sums: shorter ones narrow the bounds and slow the products."""
RUN = 256
"""Numbers that one float32 sum of squares takes."""
PIECE = 4096
"""Numbers that one float64 sum of squared differences takes; part of the fixed order."""
UNIT = 2.0**-24

Array = np.ndarray


def kappa(dimension: int, chunk: int = CHUNK) -> float:
    """Half the width of the bounds, relative to a + b."""
    n = min(chunk, dimension) + -(-dimension // chunk)
    return sum(m * UNIT / (1 - m * UNIT) for m in (n, RUN)) + 16 * UNIT


def squared_norms(x: Array) -> Array:
    """float32 n D -> float64 n."""
    total = torch.zeros(len(x), dtype=torch.float64)
    for start in range(0, x.shape[1], RUN):
        total += torch.from_numpy(x)[:, start : start + RUN].square().sum(1).double()
    return total.numpy()


def products(x: Array, y: Array, rows: Array | None = None) -> Array:
    """float32 n D, m D -> n m: x y^T, summed chunk by chunk. `rows`: of these rows of x only."""
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    if rows is not None:
        a = a[torch.from_numpy(rows)]
    total = a[:, :CHUNK] @ b[:, :CHUNK].T
    term = torch.empty_like(total)
    for start in range(CHUNK, a.shape[1], CHUNK):
        torch.mm(a[:, start : start + CHUNK], b[:, start : start + CHUNK].T, out=term)
        total += term
    return total.numpy()


def distances(x: Array, y: Array, rows: Array, columns: Array) -> Array:
    """Squared Euclidean distances of float32 x[rows[i]], y[columns[i]]: float64 differences, each pair's summed piece
    by piece in order, so that they do not depend on which pairs are taken together."""
    total = np.zeros(len(rows))
    for start in range(0, x.shape[1], PIECE):
        difference = y[columns, start : start + PIECE].astype(np.float64)
        difference -= x[rows, start : start + PIECE]
        np.multiply(difference, difference, out=difference)
        total += difference.sum(axis=1)
    return total


class Heaps:
    """The `k` smallest (or largest) values of each row and their columns, kept by FAISS while blocks stream past."""

    def __init__(self, rows: int, k: int, largest: bool = False) -> None:
        self.k, self.largest = k, largest
        self.values = np.empty((rows, k), np.float32)
        self.columns = np.empty((rows, k), np.int64)
        self._heaps: Any = faiss.float_minheap_array_t() if largest else faiss.float_maxheap_array_t()
        self._heaps.nh, self._heaps.k = rows, k
        self._heaps.val, self._heaps.ids = faiss.swig_ptr(self.values), faiss.swig_ptr(self.columns)
        self._heaps.heapify()

    def add(self, block: Array, first: int) -> None:
        """float32 rows x n, C-contiguous; its first column is column `first`. +-infinity is never kept."""
        assert block.flags.c_contiguous and block.dtype == np.float32
        self._heaps.addn(block.shape[1], faiss.swig_ptr(block), first, 0, block.shape[0])

    def result(self) -> tuple[Array, Array]:
        """(values rows k, columns int64 rows k), best first; where fewer were seen: column -1, value +-infinity."""
        self._heaps.reorder()
        values = self.values.copy()
        values[self.columns < 0] = -np.inf if self.largest else np.inf
        return values, self.columns.copy()


@dataclass
class Candidates:
    """Of each query: the best by bound, with what is needed to judge them. Near: lower bounds, ascending; far: upper
    bounds, negated, ascending. A column that is not there is -1 with an infinite bound."""

    bounds: Array
    """float64 n K."""
    widths: Array
    """float64 n K: upper minus lower bound."""
    columns: Array
    """int64 n K."""

    @staticmethod
    def merge(parts: list[Candidates]) -> Candidates:
        """The best K of all, by (bound, column): in any order and grouping the same."""
        keep = max(p.bounds.shape[1] for p in parts)
        bounds, widths, columns = (
            np.concatenate([getattr(p, name) for p in parts], axis=1) for name in ("bounds", "widths", "columns")
        )
        order = np.lexsort((columns, bounds), axis=1)[:, :keep]
        return Candidates(*(np.take_along_axis(v, order, axis=1) for v in (bounds, widths, columns)))

    def judge(self, k: int) -> tuple[Array, Array, Array]:
        """(reach float64 n, finalists bool n K, certified bool n).

        `reach`: the k-th smallest of the other bounds: a row of the true list has its bound not above it.
        `certified`: rows left out have bounds above the reach, so the finalists hold the whole list.
        """
        upper = np.sort(self.bounds + self.widths, axis=1)
        reach = upper[:, k - 1]
        finalists = (self.bounds <= reach[:, None]) & (self.columns >= 0)
        certified = self.bounds[:, -1] > reach  # infinite where every row was seen
        return reach, finalists, certified


def nearest(queries: Float[Tensor, "Q D"], pool: Float[Tensor, "P D"]) -> Int[Tensor, " Q"]:
    """The pool row with the smallest squared Euclidean distance (in float64) to each query, ties to the lower row.

    FAISS nominates on centred float32 vectors; where the bounds do not prove the winner, more are nominated.

    Raises:
        ValueError: an empty pool, unequal dimensions, or a value that is not finite.
    """
    if len(pool) == 0 or queries.shape[1] != pool.shape[1]:
        raise ValueError(f"nearest: queries {tuple(queries.shape)}, pool {tuple(pool.shape)}: want Q D and P D, P > 0")
    x64, y64 = (np.ascontiguousarray(t.detach().cpu().double().numpy()) for t in (queries, pool))
    if not (np.isfinite(x64).all() and np.isfinite(y64).all()):
        raise ValueError("nearest: a query or a pool row is not finite")
    mean = y64.mean(axis=0)
    x, y = (x64 - mean).astype(np.float32), (y64 - mean).astype(np.float32)
    found = np.full(len(x), -1, np.int64)
    open_rows = np.arange(len(x))
    count = min(8, len(y))
    while len(open_rows):
        for rows in np.array_split(open_rows, -(-len(open_rows) * count * x.shape[1] // 4_000_000)):
            values, columns = faiss.knn(x[rows], y, count)
            difference = y64[columns] - x64[rows][:, None]  # q count D
            exact = np.square(difference, out=difference).sum(axis=-1)
            best = np.lexsort((columns, exact), axis=1)[:, :1]
            winner, least = np.take_along_axis(columns, best, 1)[:, 0], np.take_along_axis(exact, best, 1)[:, 0]
            # A row as close as the winner has a norm of at most |x| + sqrt(least): that bounds its float32 error.
            norms = squared_norms(x[rows])
            wide = norms + (np.sqrt(norms) + np.sqrt(least)) ** 2
            sure = values[:, -1] - kappa(x.shape[1], x.shape[1]) * wide * (1 + 1e-6) > least
            if count == len(y):
                sure[:] = True
            found[rows[sure]] = winner[sure]
        open_rows = np.flatnonzero(found < 0)
        count = min(count * 8, len(y))
    return torch.from_numpy(found)
