"""Rows of a descriptor artifact, however they are asked for; few files stay open."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.style import vectors
from pipeline.style.vectors import Vectors
from tests.pipeline.neighbours.test_certified import like_grams, store


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, np.ndarray, np.ndarray]:
    """(folder, float32 160 300, valid): parts of 40 rows in row groups of 7; some rows without a vector."""
    x, valid = like_grams(160), np.ones(160, bool)
    valid[[0, 6, 7, 80, 159]] = False
    return store(tmp_path_factory.mktemp("vectors") / "d", x, valid), x, valid


def test_any_run_of_rows(stored: tuple[str, np.ndarray, np.ndarray]) -> None:
    folder, x, valid = stored
    wanted = np.where(valid[:, None], x, 0)
    found = Vectors(folder)
    assert len(found) == 160 and np.array_equal(found.valid, valid)
    room = np.full((170, 300), np.nan, np.float32)
    for start, stop in ((0, 160), (0, 1), (6, 8), (7, 7), (35, 47), (40, 80), (159, 160), (160, 160)):
        for out in (None, room):
            rows, good = found.rows(start, stop, out)
            np.testing.assert_array_equal(rows, wanted[start:stop])
            np.testing.assert_array_equal(good, valid[start:stop])
    some = np.array([0, 3, 41, 42, 119, 159])
    np.testing.assert_array_equal(found.take(some)[0], wanted[some])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted there")
def test_few_files_stay_open(stored: tuple[str, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, x, valid = stored
    monkeypatch.setattr(vectors, "OPEN", 2)

    def held() -> int:
        files = (os.path.realpath(file) for file in Path("/proc/self/fd").iterdir())
        return sum(file.startswith(os.path.realpath(folder)) for file in files)

    found = Vectors(folder)
    assert found.part_rows == [40, 40, 40, 40] and held() == 0
    for _ in range(2):  # the second time without comparing checksums, through other files
        rows, _ = found.rows(0, 160)
        assert 0 < held() <= 2
    np.testing.assert_array_equal(rows, np.where(valid[:, None], x, 0))
