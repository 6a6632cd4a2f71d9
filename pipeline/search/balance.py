"""Furthest lists in which no image is in more than a given share of them: a few outliers are everybody's furthest
(hubs: Radovanović, Nanopoulos, Ivanović, JMLR 11, 2010), and as triplets' negatives they are all that an encoder sees.

The lists have the most distance in total that the cap allows (a transportation problem: pipeline.auction). It is the
rooted style distance: squared ones would let the outliers' distances outweigh all others.

1. Pool: only images that are far from many others can be worth a place, so the columns are the POOL k / cap images
   furthest from the mean (LEAST at least), whatever the number of rows. What the others would add is bounded on seeded
   rows; above TOLERANCE the pool is doubled.
2. An auction among all rows, where their distances to the pool are at most ENTRIES: that is all. Otherwise among a
   seeded sample of the rows, for its prices.
3. Then one pass over all rows gives each its k + MARGIN best of d - price; places are given out rank by rank, to
   those who would lose most, and rows whose candidates are taken search again among the images with room.

So the cost grows linearly with the rows for a fixed cap. Distances that decide are of vectors rounded to whole numbers
of a step so coarse that float64 sums of their products are exact in any order: lists do not depend on blocks, threads
or the library of products. The distances given are those of the vectors themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from pipeline.search import auction, bounds
from pipeline.search.rows import Rows

Array = np.ndarray

POOL = 4
"""Columns, relative to the least that can fill the lists."""
LEAST = 512
"""Columns at least: so few rows are all in the pool."""
ENTRIES = 1 << 24
"""Distances that the auction holds: 128 MB of float64."""
SAMPLE = 4096
"""Rows of the auction where it cannot hold all."""
CHECKED = 256
"""Rows that say what the images outside the pool would add."""
TOLERANCE = 2e-3
"""Of the total distance: what they may add."""
MARGIN = 16
"""Candidates beyond k."""
CHUNK = 4096
"""Numbers of a vector rounded at a time."""


def limit_of(rows: int, k: int, cap: float) -> int:
    """Lists that one image may be in: floor(cap x rows).

    Raises:
        ValueError: no share, more furthest than others, or too few places for all.
    """
    if not 0 < cap <= 1:
        raise ValueError(f"--far-cap {cap}: give a share of the lists above 0, at most 1")
    if not 0 < k < rows:
        raise ValueError(f"--far {k}: {rows} described images have {max(0, rows - 1)} others each; ask for no more")
    limit = int(Fraction(str(float(cap))) * rows)
    if limit < k:
        raise ValueError(
            f"--far-cap {cap}: {rows} images, each in at most {limit} lists, cannot fill {rows} lists of {k}; "
            f"give at least {k / rows:.4g}"
        )
    return limit


def capping_bytes(rows: int, dimension: int, k: int, cap: float) -> int:
    """What `balanced` holds at most, where the pool is not doubled."""
    pool = max(LEAST, int(POOL * k / cap))
    return 4 * pool * dimension + 6 * 8 * ENTRIES + 12 * rows * (k + MARGIN) + 16 * rows * k


def balanced(vectors: Rows, k: int, cap: float, seed: int = 0, block: int = 1024) -> tuple[Array, Array]:
    """(far int64 N k, positions; far_distance float64 N k, squared distances): furthest first, ties by position, no
    image in more than floor(cap x rows with a vector) lists. Rows without a vector: -1, NaN, and in nobody's list.

    Memory: the pool, 4 D bytes for each of its LEAST or POOL k / cap images (more where it is doubled), a block, the
    auction's ENTRIES, and about 12 (k + MARGIN) + 16 k bytes a row.

    Raises:
        ValueError: a cap that cannot be kept, fewer than k others.
    """
    grid, apart = _survey(vectors, block)
    usable = np.flatnonzero(apart >= 0)
    limit = limit_of(len(usable), k, cap)
    size = min(len(usable), max(LEAST, POOL * -(-k * len(usable) // limit)))
    while True:
        pool = _Pool.of(vectors, grid, np.sort(np.lexsort((np.arange(len(apart)), -apart))[:size]), block)
        number = len(usable)
        if number * size > ENTRIES:
            number = min(number, max(1, min(SAMPLE, ENTRIES // size)))
        rows = np.sort(np.random.default_rng(seed).permutation(usable)[:number])
        distance = np.concatenate([pool.distance(x, at) for at, x in _some(vectors, rows, block)])
        held, prices = auction.auction(distance, k, max(k, limit * number // len(usable)))
        if size == len(usable) or _outside(vectors, pool, prices, rows, k, block) <= TOLERANCE:
            break
        size = min(len(usable), 2 * size)
    if number < len(usable):
        del distance
        held = _pass(vectors, pool, prices, usable, k, limit, block)
    return _exact(vectors, pool, usable, held, block)


def _blocks(vectors: Rows, block: int) -> Iterator[tuple[int, Array, Array]]:
    for start in range(0, len(vectors), block):
        x, valid = vectors.rows(start, min(start + block, len(vectors)))
        yield start, x, valid


def _some(vectors: Rows, rows: Array, block: int) -> Iterator[tuple[Array, Array]]:
    """(positions, vectors) of these rows, ascending; blocks without one are not read."""
    for start in np.unique(rows // block) * block:
        at = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + block)]
        yield at, vectors.rows(int(start), min(int(start) + block, len(vectors)))[0][at - start]


@dataclass(frozen=True)
class _Grid:
    """What vectors are rounded to: whole multiples of `step` from `mean` (float64 D)."""

    mean: Array
    step: float

    def whole(self, x: Array, start: int) -> torch.Tensor:
        """float64 n CHUNK of whole numbers, from number `start` of the vectors on."""
        shifted = x[:, start : start + CHUNK] - self.mean[start : start + CHUNK]
        shifted /= self.step
        return torch.from_numpy(np.rint(shifted, out=shifted))

    def distance(self, x: Array, y: Array, private: tuple[Array, Array]) -> Array:
        """float64 n m: Euclidean distances of the rounded rows, with what each has to itself (squared)."""
        products = torch.zeros(len(x), len(y), dtype=torch.float64)
        own = (torch.from_numpy(np.rint(some / self.step**2)) for some in private)
        norms = next(own)[:, None], next(own)
        for start in range(0, x.shape[1], CHUNK):
            a, b = self.whole(x, start), self.whole(y, start)
            products.addmm_(a, b.T)
            norms[0].add_(a.square().sum(1, keepdim=True))
            norms[1].add_(b.square().sum(1))
        squares = products.mul_(-2).add_(norms[0]).add_(norms[1])
        return np.asarray(squares.clamp_(min=0).sqrt_().mul_(self.step).numpy())


def _survey(vectors: Rows, block: int) -> tuple[_Grid, Array]:
    """The grid, and each row's squared distance from the mean (-1: no vector)."""
    total, count, largest = np.zeros(vectors.dimension), 0, 0.0
    for _, x, valid in _blocks(vectors, block):
        for row in x[valid]:  # row by row: the same sum for any blocks
            total += row
        count += int(valid.sum())
    mean, apart = total / max(1, count), np.full(len(vectors), -1.0)
    largest = float(np.sqrt(vectors.private.max(initial=0)))
    for start, x, valid in _blocks(vectors, block):
        squares = np.zeros(len(x))
        for first in range(0, x.shape[1], CHUNK):
            shifted = x[:, first : first + CHUNK] - mean[first : first + CHUNK]
            shifted[~valid] = 0
            largest = max(largest, float(np.abs(shifted).max(initial=0)))
            squares += np.square(shifted, out=shifted).sum(axis=1)
        apart[start : start + len(x)][valid] = (squares + vectors.private[start : start + len(x)])[valid]
    # Sums of D products of numbers up to 2^bits stay below 2^53, where float64 holds every whole number.
    bits = (53 - vectors.dimension.bit_length()) // 2
    return _Grid(mean, largest / 2**bits or 1.0), apart


@dataclass(frozen=True)
class _Pool:
    """The images that may be in lists."""

    grid: _Grid
    columns: Array
    """int64 m: positions, ascending."""
    vectors: Array
    """float32 m D."""
    private: Array
    """float64 N, of all images."""

    @staticmethod
    def of(vectors: Rows, grid: _Grid, columns: Array, block: int) -> _Pool:
        held = np.empty((len(columns), vectors.dimension), np.float32)
        for at, x in _some(vectors, columns, block):
            held[np.searchsorted(columns, at)] = x
        return _Pool(grid, columns, held, vectors.private)

    def distance(self, x: Array, at: Array) -> Array:
        """float64 n m; minus infinity where a row (positions `at`) meets itself."""
        distance = self.grid.distance(x, self.vectors, (self.private[at], self.private[self.columns]))
        distance[at[:, None] == self.columns] = -np.inf
        return distance


def _outside(vectors: Rows, pool: _Pool, prices: Array, rows: Array, k: int, block: int) -> float:
    """Bound of what images outside the pool would add, relative to the total: a price of 0 for each of them gives
    another bound of the optimum, and the mean of some rows says how much higher it is."""
    rows = rows[:: -(-len(rows) // CHECKED)]
    checked = np.concatenate([x for _, x in _some(vectors, rows, block)])
    distance = pool.distance(checked, rows)
    inside = -np.sort(prices - distance, axis=1)[:, :k]
    best = inside
    for start, x, valid in _blocks(vectors, block):
        at = start + np.arange(len(x))
        added = pool.grid.distance(checked, x, (pool.private[rows], pool.private[at]))
        added[:, ~valid | np.isin(at, pool.columns)] = -np.inf
        added[rows[:, None] == at] = -np.inf
        best = -np.sort(-np.concatenate([best, added], axis=1), axis=1)[:, :k]
    return float((best - inside).sum() / max(float(-np.sort(-distance, axis=1)[:, :k].sum()), 1e-300))


def _pass(vectors: Rows, pool: _Pool, prices: Array, usable: Array, k: int, limit: int, block: int) -> Array:
    """held int64 n k of all rows, from the prices that a sample found."""
    n, m = len(usable), len(pool.columns)
    width = min(m, k + MARGIN)
    candidates, values = np.empty((n, width), np.int32), np.empty((n, width))
    for at, x in _some(vectors, usable, block):
        some = slice(*np.searchsorted(usable, [at[0], at[-1] + 1]))
        worth = pool.distance(x, at) - prices
        candidates[some] = best = auction.best_places(worth, width)
        values[some] = np.take_along_axis(worth, best, 1)
    lists = auction.Lists(n, m, k, limit)
    for rank in range(width):
        # Who would lose a high place falls further; within a rank, those whose first candidate beyond k is worse.
        rows = np.flatnonzero((lists.count < k) & np.isfinite(values[:, rank]))
        columns = candidates[rows, rank].astype(np.int64)
        loss = values[rows, rank] - values[rows, min(max(rank + 1, k), width - 1)]
        order = np.lexsort((rows, -loss, columns))
        rows, columns = rows[order], columns[order]
        keep = np.arange(len(rows)) - np.searchsorted(columns, columns) < lists.room[columns]
        lists.take(rows[keep], columns[keep], lists.count[rows[keep]])
    for at, x in _some(vectors, usable[lists.count < k], block):
        for row, worth in zip(np.searchsorted(usable, at), pool.distance(x, at) - prices, strict=True):
            lists.fill(int(row), worth)
    place = np.minimum(np.searchsorted(pool.columns, usable), m - 1)
    lists.swap(np.where(pool.columns[place] == usable, place, -1))
    return lists.held


def _exact(vectors: Rows, pool: _Pool, usable: Array, held: Array, block: int) -> tuple[Array, Array]:
    """The lists with their exact distances, in order."""
    k = held.shape[1]
    far, apart = np.full((len(vectors), k), -1), np.full((len(vectors), k), np.nan)
    for at, x in _some(vectors, usable, block):
        columns = held[slice(*np.searchsorted(usable, [at[0], at[-1] + 1]))]
        found = bounds.exact(x, pool.vectors, np.repeat(np.arange(len(at)), k), columns.ravel())
        positions = pool.columns[columns]
        distance = found.reshape(columns.shape) + (pool.private[at][:, None] + pool.private[positions])
        order = np.lexsort((positions, -distance), axis=1)
        far[at], apart[at] = (np.take_along_axis(v, order, 1) for v in (positions, distance))
    return far, apart
