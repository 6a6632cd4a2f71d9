"""The k best of each row while blocks stream past: on the CPU, on a device, with bounds, with exact distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.search.bounds import Array


class Heaps:
    """The `k` smallest (or largest) values of each row and their columns, kept by FAISS while blocks stream past."""

    def __init__(self, rows: int, k: int, largest: bool = False) -> None:
        import faiss  # a search on a GPU does without

        self.k, self.largest, self._pointer = k, largest, faiss.swig_ptr
        self.values = np.empty((rows, k), np.float32)
        self.columns = np.empty((rows, k), np.int64)
        self._heaps: Any = faiss.float_minheap_array_t() if largest else faiss.float_maxheap_array_t()
        self._heaps.nh, self._heaps.k = rows, k
        self._heaps.val, self._heaps.ids = self._pointer(self.values), self._pointer(self.columns)
        self._heaps.heapify()

    def add(self, block: Tensor, first: int) -> None:
        """float32 rows x n, contiguous; its first column is column `first`. +-infinity is never kept."""
        assert block.is_contiguous() and block.dtype == torch.float32
        self._heaps.addn(block.shape[1], self._pointer(block.numpy()), first, 0, block.shape[0])

    def result(self) -> tuple[Array, Array]:
        """(values rows k, columns int64 rows k), best first; where fewer were seen: column -1, value +-infinity."""
        self._heaps.reorder()
        values = self.values.copy()
        values[self.columns < 0] = -np.inf if self.largest else np.inf
        return values, self.columns.copy()


class Tops:
    """As `Heaps`, of blocks on a device, where they stay. Which of equal values at the edge are kept is the device's
    choice: the bounds' margin answers for it."""

    def __init__(self, rows: int, k: int, largest: bool, device: torch.device) -> None:
        self.k, self.largest = k, largest
        self.none = -float("inf") if largest else float("inf")
        self.values = torch.full((rows, k), self.none, device=device)
        self.columns = torch.full((rows, k), -1, device=device)

    def add(self, block: Tensor, first: int) -> None:
        """float32 rows x n; its first column is column `first`. +-infinity is never kept."""
        values, places = block.topk(min(self.k, block.shape[1]), dim=1, largest=self.largest)
        values = torch.cat([self.values, values], dim=1)
        columns = torch.cat([self.columns, places + first], dim=1)
        self.values, best = values.topk(self.k, dim=1, largest=self.largest)
        self.columns = columns.gather(1, best)

    def result(self) -> tuple[Array, Array]:
        """(values rows k, columns int64 rows k), best first; where fewer were seen: column -1, value +-infinity."""
        columns = torch.where(self.values == self.none, -1, self.columns)
        return self.values.cpu().numpy(), columns.cpu().numpy()


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


class Best:
    """The k best (squared distance, position) of each query among the pairs taken."""

    def __init__(self, queries: int, k: int, sign: int) -> None:
        self.k, self.sign = k, sign
        self.distances = np.full((queries, k), sign * np.inf)
        """float64 n k, best first; +-infinity: none yet."""
        self.columns = np.full((queries, k), -1)
        """int64 n k: positions."""

    @property
    def limits(self) -> Array:
        """float64 n: sign times the k-th best squared distance; infinite where fewer were taken."""
        return self.sign * self.distances[:, -1]

    def take(self, rows: Array, columns: Array, distances: Array) -> None:
        """Pairs that were not taken before, in any order; `rows` are queries."""
        order = np.lexsort((columns, self.sign * distances, rows))
        rows, columns, distances = rows[order], columns[order], distances[order]
        touched, first, counts = np.unique(rows, return_index=True, return_counts=True)
        rank = np.arange(len(rows)) - np.repeat(first, counts)
        kept = rank < self.k
        at = np.repeat(np.arange(len(touched)), counts)[kept], self.k + rank[kept]
        both = np.full((len(touched), 2 * self.k), self.sign * np.inf), np.full((len(touched), 2 * self.k), -1)
        for room, old, new in zip(both, (self.distances, self.columns), (distances, columns), strict=True):
            room[:, : self.k] = old[touched]
            room[at] = new[kept]
        best = np.lexsort((both[1], self.sign * both[0]), axis=1)[:, : self.k]
        self.distances[touched], self.columns[touched] = (np.take_along_axis(v, best, 1) for v in both)
