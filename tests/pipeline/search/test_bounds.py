"""Lower bounds of squared distances: they hold, and are not idle."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.search import bounds
from pipeline.search.bounds import Kind
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


@pytest.mark.parametrize(("kind", "digits"), [("tf32", 11), ("bf16", 8)])
def test_rows_are_rounded_to_the_nearest_number_and_bounds_are_wide_enough(kind: Kind, digits: int) -> None:
    generator = np.random.default_rng(3)
    x = (generator.normal(size=(30, 5000)) * 10 ** generator.uniform(-3, 3, (30, 5000))).astype(np.float32)
    x[0, :4] = [1 + 2.0**-digits, 1 + 3 * 2.0**-digits, -1 - 2.0**-digits, 0]  # ties, to even
    short = bounds.rounded(torch.from_numpy(x.copy()), kind)
    mantissa, exponent = np.frexp(x.astype(np.float64))
    np.testing.assert_array_equal(short.double().numpy(), np.ldexp(np.round(mantissa * 2.0**digits), exponent - digits))
    assert bounds.KINDS[kind] == 2.0**-digits
    # Rows that lose all they can lose, in the same direction: numbers just below the middle of two short ones.
    x = np.full((2, 5000), 1 + 2.0**-digits - 2.0**-20, np.float32)
    x[1] += 1e-3 * generator.normal(size=5000).astype(np.float32)
    x[1, ::2] = x[0, ::2]
    short = bounds.rounded(torch.from_numpy(x.copy()), kind)
    norms = bounds.squared_norms(x)
    exact = x.astype(np.float64) @ x.astype(np.float64).T
    error = 2 * np.abs(bounds.inner(short, short, kind=kind).double().numpy() - exact) / (norms[:, None] + norms)
    kappa = bounds.kappa(5000, kind=kind)
    rounding = 2 * 2.0**-digits
    assert 0.9 * rounding < error.max() < kappa  # of which sums may take their part too
    assert kappa == pytest.approx(rounding + 4098 * 2.0**-22, rel=0.02)


def test_a_device_that_sums_worse_than_the_bounds_allow_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in bounds.KINDS:
        bounds.trusted(torch.device("cpu"), kind)
    product = torch.mm

    def worse(kind: Kind) -> None:
        def short(a: torch.Tensor, b: torch.Tensor, **_: object) -> torch.Tensor:
            return product(bounds.rounded(a.clone(), kind).float(), bounds.rounded(b.T.clone(), kind).float().T)

        monkeypatch.setattr(torch, "mm", short)

    for given, taken in (("fp32", "tf32"), ("fp32", "bf16"), ("tf32", "bf16")):
        worse(taken)
        with pytest.raises(RuntimeError, match=f"cpu: products of {given} are off by .*, more than the bounds allow"):
            bounds.trusted(torch.device("cpu"), given)


def test_distances_of_tensors_have_the_bits_of_arrays() -> None:
    generator = np.random.default_rng(4)
    for n in (1, 7, 8, 9, 100, 127, 128, 129, 136, 264, 2272, 4095, 4096):
        x = generator.normal(size=(5, n)) ** 2 * 10 ** generator.uniform(-3, 3, (5, n))
        np.testing.assert_array_equal(bounds.ordered_sum(torch.from_numpy(x)).numpy(), x.sum(axis=1))
        assert n < 100 or (np.cumsum(x, axis=1)[:, -1] != x.sum(axis=1)).any()  # another order has other bits
    x, y = (generator.normal(size=(30, 6000)).astype(np.float32) for _ in range(2))
    i, j = (generator.integers(0, 30, 200) for _ in range(2))
    found = bounds.exact(torch.from_numpy(x), torch.from_numpy(y), i, j)
    np.testing.assert_array_equal(found, bounds.exact(x, y, i, j))
