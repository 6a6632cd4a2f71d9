"""What lists say of themselves: hubs, and the labels that neighbours share."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.neighbours.lists import hubs, same_label


def test_hubs_and_labels() -> None:
    far = np.array([[3, 1], [3, 0], [3, 0], [0, 1], [-1, -1]])
    share = {"far_most_frequent_share": 3 / 4, "far_distinct": 3, "far_top10_share": 1.0}
    assert hubs(far) == share
    near = np.array([[1, 2], [0, 2], [0, 1], [-1, -1]])
    assert same_label(near, ["a", "a", "b", "a"]) == pytest.approx(2 / 6)
    assert same_label(near, ["a", None, "b", "a"]) == 0  # an image without a label is nobody's equal
    assert same_label(near, [None] * 4) is None
