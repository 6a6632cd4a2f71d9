"""Rows of an array: those that are no vectors are zeros, and the array stays as it is."""

from __future__ import annotations

import numpy as np

from pipeline.search.rows import InMemory


def test_runs_of_rows() -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3) + 1
    rows = InMemory(x)
    assert (len(rows), rows.dimension) == (4, 3) and rows.private.tolist() == [0.0] * 4
    part, valid = rows.rows(1, 3)
    assert part.tolist() == x[1:3].tolist() and valid.tolist() == [True, True]
    assert len(rows.rows(3, 9)[0]) == len(rows.rows(3, 9)[1]) == 1


def test_what_is_no_vector_is_zeros() -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3) + 1
    x[2] = np.nan
    there = np.array([True, False, False, True])
    part, valid = InMemory(x, there).rows(0, 3)
    assert part.tolist() == [[1, 2, 3], [0, 0, 0], [0, 0, 0]] and part.dtype == np.float32
    assert valid.tolist() == [True, False, False]
    valid[:] = True
    assert there.tolist() == [True, False, False, True] and x[1].tolist() == [4, 5, 6]
