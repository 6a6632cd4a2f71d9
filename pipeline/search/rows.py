"""Rows of vectors that are read a run at a time, from wherever they are."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from pipeline.search.bounds import Array


class Rows(Protocol):
    """N vectors of length `dimension`; some may be missing."""

    dimension: int

    @property
    def private(self) -> Array:
        """float64 N: what a row adds to its squared distance to any other."""

    def __len__(self) -> int: ...

    def rows(self, start: int, stop: int) -> tuple[Array, Array]:
        """(float32 n D, valid bool n); zeros where there is no vector."""
        ...


class GroupedRows(Rows, Protocol):
    """Rows that are stored in groups."""

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """(first row, last + 1) of each group."""

    def take(self, rows: Array) -> tuple[Array, Array]:
        """As `rows`, of rows at any positions, int64 ascending."""
        ...


class InMemory:
    """The rows of an array, float32 N D (it may be mapped); `valid`, bool N: which are vectors (none: all)."""

    def __init__(self, x: Array, valid: Array | None = None) -> None:
        self.x, self.valid, self.dimension, self.private = x, valid, int(x.shape[1]), np.zeros(len(x))

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, start: int, stop: int) -> tuple[Array, Array]:
        x = self.x[start:stop]
        if self.valid is None:
            return x, np.ones(len(x), bool)
        valid = self.valid[start:stop].copy()
        return np.where(valid[:, None], x, 0).astype(x.dtype), valid
