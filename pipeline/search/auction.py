"""Lists of the most total distance in which no column is in more than a given number: the transportation problem

    max sum_ij d(i, j) x_ij,    sum_j x_ij = k,    sum_i x_ij <= limit,    0 <= x_ij <= 1.

Its dual gives each column a price: a row's list is the k largest of d(i, j) - price_j, and any prices bound the optimum
from above (`bound`). The auction (Bertsekas, "Auction algorithms for network flow problems", 1992) finds both.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

EPSILON = 2e-3
"""Least raise of a bid, relative to the mean furthest distance; the auction's total is within it of the optimum."""
ROUNDS = 5000
"""Of bids at most (where hardly any places are spare); what is then open takes the best places left."""


def bound(distance: Array, prices: Array, k: int, limit: int) -> float:
    """No lists of k have more total distance (n m, -infinity: not allowed) with each column in `limit` of them."""
    top = np.partition(distance - prices, -k, axis=1)[:, -k:]
    return float(top.sum() + limit * prices.sum())


def best_places(values: Array, k: int) -> Array:
    """Places of the k largest of each row, largest first, ties to the lower place; values are not NaN."""
    k = min(k, values.shape[1])
    if k < values.shape[1]:
        least = np.partition(values, -k, axis=1)[:, -k, None]
        above, equal = values > least, values == least
        spare = k - above.sum(axis=1, keepdims=True)
        places = np.nonzero(above | (equal & (np.cumsum(equal, axis=1) <= spare)))[1].reshape(len(values), k)
    else:
        places = np.tile(np.arange(k), (len(values), 1))
    order = np.argsort(-np.take_along_axis(values, places, 1), axis=1, kind="stable")
    return np.take_along_axis(places, order, 1)


class Lists:
    """Lists that fill: `held` int64 n k (places in the pool, -1: open), `count` of each row, `room` of each column."""

    def __init__(self, n: int, m: int, k: int, limit: int) -> None:
        self.held, self.count = np.full((n, k), -1), np.zeros(n, np.int64)
        self.room = np.full(m, limit)

    def take(self, rows: Array, columns: Array, places: Array) -> None:
        """Columns for these places of rows."""
        self.held[rows, places] = columns
        self.count += np.bincount(rows, minlength=len(self.count))
        self.room -= np.bincount(columns, minlength=len(self.room))

    def fill(self, row: int, values: Array) -> None:
        """The best columns with room, by `values` (float64 m, minus infinity: not allowed)."""
        values = np.where(self.room > 0, values, -np.inf)
        values[self.held[row, : self.count[row]]] = -np.inf
        best = best_places(values[None], self.held.shape[1] - self.count[row])[0]
        best = best[np.isfinite(values[best])]
        self.held[row, self.count[row] : self.count[row] + len(best)] = best
        self.count[row] += len(best)
        self.room[best] -= 1

    def swap(self, own: Array) -> None:
        """What is open although there is room: only images that the row has, or itself. A full row without such an
        image takes it and gives up one of its own; as few rows have all images with room, there is one.
        `own`: int64 n, each row's place in the pool, or -1."""
        for row in np.flatnonzero(self.count < self.held.shape[1]):
            while self.count[row] < self.held.shape[1]:
                free = int(np.flatnonzero(self.room > 0)[0])
                mine = np.append(self.held[row, : self.count[row]], own[row])
                useful = ~np.isin(self.held, mine) & (self.held >= 0)
                others = useful.any(axis=1) & ~(self.held == free).any(axis=1) & (own != free)
                others[row] = False
                other = int(np.flatnonzero(others)[0])
                place = int(np.flatnonzero(useful[other])[0])
                given, self.held[other, place] = self.held[other, place], free
                self.held[row, self.count[row]] = given
                self.count[row] += 1
                self.room[free] -= 1


def auction(distance: Array, k: int, limit: int) -> tuple[Array, Array]:
    """(held int64 n k, prices float64 m) for distances n m (minus infinity: not allowed). Rows bid for the columns that
    they lack, up to where their next best would be as good, and epsilon; a column keeps the `limit` highest bids, and
    its price is the least of them. All prices begin at 0: one that never rose is of a column with room."""
    n, m = distance.shape
    furthest = np.take_along_axis(distance, best_places(distance, k), 1)
    epsilon = EPSILON * (float(furthest[np.isfinite(furthest)].mean()) or 1.0)
    prices, has = np.zeros(m), np.zeros((n, m), bool)
    rows, columns, bids = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)  # those kept
    for _ in range(ROUNDS):
        lacks = k - np.bincount(rows, minlength=n)
        active = np.flatnonzero(lacks)
        if not len(active):
            break
        values = distance[active] - prices
        values[has[active]] = -np.inf
        best = best_places(values, k + 1)
        values = np.take_along_axis(values, best, 1)
        lack = lacks[active, None]
        # The next best; where there is none, the last: more is not needed to get it.
        other = np.take_along_axis(values, np.minimum(lack, best.shape[1] - 1), 1)
        least = np.where(np.isfinite(values), values, np.inf).min(axis=1, keepdims=True)
        other = np.where(np.isfinite(other), other, least)
        row, rank = np.nonzero((np.arange(best.shape[1]) < lack) & np.isfinite(values))
        column = best[row, rank]
        bid = distance[active[row], column] - other[row, 0] + epsilon
        wanted = np.zeros(m, bool)
        wanted[column] = True
        there = wanted[columns]
        row = np.concatenate([rows[there], active[row]])
        column, bid = np.concatenate([columns[there], column]), np.concatenate([bids[there], bid])
        order = np.lexsort((row, -bid, column))
        row, column, bid = row[order], column[order], bid[order]
        place = np.arange(len(column)) - np.searchsorted(column, column)
        keep, last = place < limit, place == limit - 1
        prices[column[last]] = np.maximum(prices[column[last]], bid[last])
        has[row[~keep], column[~keep]] = False
        has[row[keep], column[keep]] = True
        rows = np.concatenate([rows[~there], row[keep]])
        columns, bids = np.concatenate([columns[~there], column[keep]]), np.concatenate([bids[~there], bid[keep]])
    lists = Lists(n, m, k, limit)
    order = np.lexsort((columns, rows))
    rows, columns = rows[order], columns[order]
    lists.take(rows, columns, np.arange(len(rows)) - np.searchsorted(rows, rows))
    for i in np.flatnonzero(lists.count < k):
        lists.fill(int(i), distance[i] - prices)
    itself = np.isneginf(distance)
    lists.swap(np.where(itself.any(axis=1), itself.argmax(axis=1), -1))
    return lists.held, prices
