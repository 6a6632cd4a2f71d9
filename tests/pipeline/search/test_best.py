"""The k best of pairs that come in any order, against sorting them all."""

import numpy as np
import pytest

from pipeline.search.best import Best


@pytest.mark.parametrize("sign", [1, -1])
def test_ties_go_to_the_lower_position_in_whatever_order_pairs_come(sign: int) -> None:
    generator = np.random.default_rng(0)
    queries, others, k = 5, 40, 3
    distance = generator.integers(0, 4, (queries, others)).astype(np.float64)  # many ties, at the cut too
    pairs = generator.permutation(queries * others)[:150]
    best = Best(queries, k, sign)
    for part in np.array_split(pairs, 2):
        rows, columns = np.divmod(part, others)
        best.take(rows, columns, distance[rows, columns])
    for row in range(queries):
        taken = [p % others for p in pairs if p // others == row]
        wanted = sorted(taken, key=lambda c: (sign * distance[row, c], c))[:k]
        assert best.columns[row].tolist() == wanted
        assert best.distances[row].tolist() == distance[row, wanted].tolist()
    assert best.limits.tolist() == (sign * best.distances[:, -1]).tolist()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_query_with_too_few_pairs_has_no_limit_yet(sign: int) -> None:
    best = Best(2, 2, sign)
    best.take(np.array([1, 1, 0]), np.array([7, 3, 4]), np.array([2.0, 1.0, 5.0]))
    assert best.columns[0].tolist() == [4, -1] and best.distances[0].tolist() == [5.0, sign * np.inf]
    assert best.limits.tolist() == [np.inf, 2.0 if sign == 1 else -1.0]
