"""Recall against a loop; its interval against the equation that it solves."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.search import recall


def test_share_of_the_true_list_against_a_loop_with_ties() -> None:
    random = np.random.default_rng(0)
    wanted = np.sort(random.integers(0, 6, (40, 4)), axis=1).astype(float)
    found = random.integers(0, 6, (40, 4)).astype(float)
    for sign in (1, -1):
        true = sign * np.sort(sign * wanted, axis=1)
        loop = [sum(sign * d <= sign * t[-1] for d in f) / 4 for f, t in zip(found, true, strict=True)]
        assert recall.recall(found, true, sign).tolist() == loop
        assert recall.recall(true, true, sign).tolist() == [1.0] * 40


def test_a_sample_is_of_valid_rows_ascending_and_seeded() -> None:
    valid = np.arange(100) % 3 == 0
    found = recall.sample(valid, 10, 1)
    assert len(set(found.tolist())) == 10 and (found % 3 == 0).all() and (np.diff(found) > 0).all()
    assert found.tolist() == recall.sample(valid, 10, 1).tolist() != recall.sample(valid, 10, 2).tolist()
    assert recall.sample(valid, 34, 1).tolist() == list(range(0, 100, 3))


@pytest.mark.parametrize(("share", "count"), [(0.9, 50), (0.5, 7), (0.01, 400)])
def test_the_intervals_ends_are_as_likely_as_they_should_be(share: float, count: int) -> None:
    """Each end p is where the observed share lies 1.96 standard deviations of p itself away."""
    low, high = recall.wilson(share, count)
    assert 0 < low < share < high < 1
    for p in (low, high):
        assert abs(share - p) / np.sqrt(p * (1 - p) / count) == pytest.approx(1.959964, rel=1e-6)


def test_an_interval_does_not_shrink_to_a_point() -> None:
    z2 = 1.959964**2
    assert recall.wilson(1.0, 100) == (pytest.approx(100 / (100 + z2), rel=1e-6), 1.0)
    assert recall.wilson(0.0, 100) == (pytest.approx(0.0, abs=1e-15), pytest.approx(z2 / (100 + z2), rel=1e-6))
    found = recall.notes("recall_near5", np.array([1.0, 0.8]))
    assert found == {"recall_near5": 0.9, "recall_near5_interval": list(recall.wilson(0.9, 2))}
