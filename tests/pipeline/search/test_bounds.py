"""Lower bounds of squared distances: they hold, and are not idle."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.search import bounds
from tests.pipeline.neighbours.test_exact import DIMENSION, vectors_like_grams


def test_bounds_hold_and_are_not_idle() -> None:
    x = vectors_like_grams(40)
    x -= x.mean(axis=0)
    norms = bounds.squared_norms(x)
    product = bounds.products(x, x).astype(np.float64)
    exact = np.array([[float((a.astype(np.float64) * b).sum()) for b in x] for a in x])
    error = 2 * np.abs(product - exact) / (norms[:, None] + norms)
    assert 0 < error.max() < bounds.kappa(DIMENSION)
    np.testing.assert_array_equal(bounds.products(x, x, np.array([3, 5])).shape, (2, 40))
    # n = 4096 + 3 chunks, 256 for the norms, 16 for the rest.
    assert bounds.kappa(DIMENSION) == pytest.approx((4096 + 3 + 256 + 16) * 2.0**-24, rel=1e-3)
    wide = x.astype(np.float64)
    off = np.abs(norms / (wide * wide).sum(axis=1) - 1).max()
    assert 0 < off < 256 * 2.0**-24
