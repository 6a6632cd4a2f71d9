"""Triplets: uniform over the lists, a function of the generator alone."""

import numpy as np
import pytest

from pipeline.neighbours.lists import Neighbours
from pipeline.training.triplets import Triplets


def triplets() -> Triplets:
    near = np.array([[1, 2], [2, 0], [0, 1], [-1, -1]], np.int32)
    far = np.array([[4, 5, 6], [4, 5, 7], [5, 6, 7], [-1, -1, -1]], np.int32)
    nothing = np.zeros((4, 1))
    return Triplets(Neighbours(["a", "b", "c", "d"], near, nothing, far, nothing, {}))


def test_positives_and_negatives_are_uniform_over_the_anchors_lists() -> None:
    anchors = np.repeat(np.arange(3), 20_000)
    positives, negatives = triplets().pick(anchors, np.random.default_rng(0))
    assert positives.dtype == negatives.dtype == np.int64
    for anchor in range(3):
        for drawn, lists in ((positives, triplets().near), (negatives, triplets().far)):
            values, counts = np.unique(drawn[anchors == anchor], return_counts=True)
            assert values.tolist() == sorted(lists[anchor].tolist())
            share = 1 / lists.shape[1]
            # Five standard deviations of a share out of 20,000 draws.
            assert np.abs(counts / 20_000 - share).max() < 5 * (share * (1 - share) / 20_000) ** 0.5
    pairs = np.unique(np.stack([positives, negatives])[:, anchors == 0], axis=1)
    assert pairs.shape[1] == 6  # drawn independently of each other


def test_a_draw_depends_on_the_generator_and_the_place_in_the_batch() -> None:
    anchors = np.array([0, 1, 2, 0])
    one, two = (triplets().pick(anchors, np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    changed = triplets().pick(np.array([1, 1, 2, 0]), np.random.default_rng(3))
    assert all(np.array_equal(a[1:], b[1:]) for a, b in zip(one, changed, strict=True))


def test_an_anchor_without_descriptor_is_an_error() -> None:
    assert triplets().anchors.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="sample d has no neighbours"):
        triplets().pick(np.array([0, 3]), np.random.default_rng(0))
