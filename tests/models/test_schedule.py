"""Learning rates of the published schedules, epoch by epoch."""

import pytest

from models.common.schedule import linear_decay, step_decay


def test_pix2pix() -> None:
    """100 epochs constant, 100 linear: the last runs at 1/101, not at 0."""
    rates = [linear_decay(n, 100, 101) for n in range(1, 201)]
    assert rates[:100] == [1.0] * 100
    assert rates[100:] == pytest.approx([1 - (n - 100) / 101 for n in range(101, 201)])
    assert rates[-1] == pytest.approx(1 / 101)


def test_pix2pixhd() -> None:
    """The rate falls by a hundredth at the END of each epoch after the 100th."""
    rates, rate = [], 1.0
    for n in range(1, 201):
        rates.append(rate)
        if n > 100:
            rate -= 1 / 100
    assert [linear_decay(n - 1, 100, 100) for n in range(1, 201)] == pytest.approx(rates)
    assert rates[-1] == pytest.approx(1 / 100) and linear_decay(500, 100, 100) == 0


def test_munit() -> None:
    assert [step_decay(n, 100_000, 0.5) for n in (0, 99_999, 100_000, 250_000)] == [1, 1, 0.5, 0.25]
