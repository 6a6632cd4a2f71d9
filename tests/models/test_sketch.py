"""Count-sketches: against a loop over positions, and what they keep."""

import pytest
import torch

from models.common import sketch
from models.common.seeds import seeded
from models.common.sketch import count_sketch, signs


def test_sketch_against_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 5, 7, 3, generator=seeded(0), dtype=torch.float64)
    sign = signs(0, 105, 9)
    assert set(sign.tolist()) == {-1.0, 1.0}
    wanted = torch.zeros(2, 8, dtype=torch.float64)
    for row in range(2):
        for position, value in enumerate(x[row].flatten()):
            wanted[row, position % 8] += sign[position] * value
    torch.testing.assert_close(count_sketch(x, 8, 9), wanted)
    monkeypatch.setattr(sketch, "PIECE", 24)  # in pieces the same
    torch.testing.assert_close(count_sketch(x, 8, 9), wanted)


def test_signs_are_as_good_as_independent() -> None:
    sign = signs(0, 1 << 18, 0)
    most = 5 / len(sign) ** 0.5  # five deviations
    assert abs(float(sign.mean())) < most
    for lag in (1, 2, 3, 64, 1000, 4096):
        assert abs(float((sign[lag:] * sign[:-lag]).mean())) < most
    assert abs(float((sign * signs(0, 1 << 18, 1)).mean())) < most
    assert torch.equal(torch.cat([signs(0, 77, 3), signs(77, 23, 3)]), signs(0, 100, 3))


@pytest.mark.parametrize("numbers", [50, 400])
def test_squared_lengths_are_kept_within_the_deviation(numbers: int) -> None:
    x = torch.randn(1, 20_000, generator=seeded(1))
    ratio = torch.stack([count_sketch(x, numbers, seed).square().sum() / x.square().sum() for seed in range(300)])
    deviation = (2 / numbers) ** 0.5
    assert float(ratio.mean()) == pytest.approx(1, abs=4 * deviation / 300**0.5)
    assert float(ratio.std()) == pytest.approx(deviation, rel=0.2)
