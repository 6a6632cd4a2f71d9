"""Nearest rows against a loop, equal ones in order."""

import numpy as np
import pytest

from pipeline.search.nearest import MARGIN, most_similar


def _unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_lists_equal_a_loop() -> None:
    random = np.random.default_rng(0)
    queries, pool = _unit(random.normal(size=(300, 12))), _unit(random.normal(size=(500, 12)))
    places, similarities = most_similar(queries, pool, 5)
    for query, found, values in zip(queries, places, similarities, strict=True):
        exact = pool.astype(np.float64) @ query.astype(np.float64)
        assert found.tolist() == sorted(range(500), key=lambda i: -exact[i])[:5]
        np.testing.assert_allclose(values, exact[found], rtol=1e-12)


def test_of_many_equal_rows_the_first_ones_are_taken() -> None:
    random = np.random.default_rng(1)
    pool = _unit(random.normal(size=(4 * MARGIN, 33)))
    same = np.sort(random.permutation(len(pool))[: 2 * MARGIN])
    pool[same] = pool[same[0]]
    places, similarities = most_similar(pool[same[:1]], pool, 5)
    assert places[0].tolist() == same[:5].tolist() and len(set(similarities[0])) == 1


def test_a_pool_that_is_too_small_is_refused() -> None:
    x = np.eye(2, dtype=np.float32)
    assert most_similar(x, x, 2)[0].tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ValueError, match="3 neighbours among 2 rows"):
        most_similar(x, x, 3)
