"""Ranks and recalls against loops over all pairs."""

import numpy as np
import pytest

from pipeline.evaluation.retrieval import chance, ranks, recalls


def test_ranks_equal_a_loop() -> None:
    random = np.random.default_rng(0)
    images, texts = random.normal(size=(20, 6)).astype("f"), random.normal(size=(60, 6)).astype("f")
    owner = np.repeat(np.arange(20), 3)
    for queries, pool, own, others in ((images, texts, np.arange(20), owner), (texts, images, owner, np.arange(20))):
        found = ranks(queries, pool, own, others)
        for query, mine, rank in zip(queries, own, found, strict=True):
            scores = pool @ query
            best = max(scores[i] for i in range(len(pool)) if others[i] == mine)
            assert rank == 1 + sum(score > best for score in scores)


def test_recalls_and_chance() -> None:
    found = recalls(np.array([1, 2, 5, 6, 11, 40]))
    assert found == {"recall1": 1 / 6, "recall5": 0.5, "recall10": 4 / 6, "median_rank": 5.5}
    assert chance(100, 1, 5) == pytest.approx(0.05)
    assert chance(10, 5, 2) == pytest.approx(1 - (5 / 10) * (4 / 9))


def test_a_query_without_a_right_item_is_refused() -> None:
    x = np.eye(2, dtype="f")
    with pytest.raises(ValueError, match="query 1 has no right item"):
        ranks(x, x, np.array([0, 7]), np.array([0, 1]))


def test_wrong_items_that_are_as_near_count_as_nearer() -> None:
    same, owner = np.ones((4, 3), np.float32), np.array([0, 0, 1, 2])
    assert ranks(same, same, owner, owner).tolist() == [3, 3, 4, 4]  # after 2, 2, 3 and 3 wrong ones
