"""Density, coverage, mode counts, reverse KL and the Inception score against loops and known answers."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.evaluation import coverage
from pipeline.evaluation.coverage import density_coverage, inception_score, mode_figures, reverse_kl


def cloud(n: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)) + shift


def loop(real: Tensor, fake: Tensor, k: int) -> tuple[float, float]:
    radii = []
    for i, a in enumerate(real.tolist()):
        others = sorted(math.dist(a, b) for j, b in enumerate(real.tolist()) if j != i)
        radii.append(others[k - 1])
    inside = [[math.dist(a, f) < r for f in fake.tolist()] for a, r in zip(real.tolist(), radii, strict=True)]
    return sum(map(sum, inside)) / (k * len(fake)), sum(map(any, inside)) / len(real)


@pytest.mark.parametrize("block", [7, 1024])
def test_density_and_coverage_of_a_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "BLOCK", block)
    real, fake = cloud(40, 0), cloud(30, 1, 0.7)
    found = density_coverage(real, fake, 3)
    assert found == pytest.approx(loop(real, fake, 3), rel=1e-12)
    assert found != pytest.approx(loop(fake, real, 3), rel=1e-3)  # not symmetric


def test_density_and_coverage_of_known_sets() -> None:
    real = cloud(800, 0)
    assert density_coverage(real, real)[1] == 1
    density, covered = density_coverage(real, cloud(800, 1))
    assert density == pytest.approx(1, abs=0.08) and covered == pytest.approx(1 - 0.5**5, abs=0.03)
    assert density_coverage(real, cloud(100, 1, 50.0)) == (0, 0)
    one = real[:1].expand(50, 3)  # all on one sample: dense, and covers nearly nothing
    assert density_coverage(real, one)[1] < 0.03
    with pytest.raises(ValueError, match="k = 5"):
        density_coverage(real[:5], real)


def test_modes_are_captured_by_samples_within_three_deviations() -> None:
    centres = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    points = np.array([[0.0, 0.029], [0.01, 0.0], [1.0, 0.031], [0.02, 1.0], [0.5, 0.5]])
    found = mode_figures(points, centres, 0.01)
    assert found.captured == 2 and found.high_quality == pytest.approx(3 / 5)
    assert found.reverse_kl == pytest.approx(2 / 3 * math.log(4 * 2 / 3) + 1 / 3 * math.log(4 / 3))
    # Distance, not each coordinate: (0.025, 0.025) lies 3.5 deviations away.
    assert mode_figures(np.array([[0.025, 0.025]]), centres, 0.01).captured == 0
    assert math.isnan(mode_figures(np.array([[9.0, 9.0]]), centres, 0.01).reverse_kl)


def test_reverse_kl_of_known_counts() -> None:
    assert reverse_kl(np.array([5, 5, 5, 5])) == pytest.approx(0)
    assert reverse_kl(np.array([20, 0, 0, 0])) == pytest.approx(math.log(4))
    assert reverse_kl(np.array([10, 10, 0, 0])) == pytest.approx(math.log(2))


def test_the_inception_score_of_known_sets() -> None:
    sure = torch.eye(10).repeat(20, 1)
    assert inception_score(sure, 10) == pytest.approx((10, 0), abs=1e-9)
    assert inception_score(torch.full((200, 10), 0.1)) == pytest.approx((1, 0), abs=1e-9)
    assert inception_score(torch.eye(10)[:1].repeat(200, 1)) == pytest.approx((1, 0), abs=1e-9)  # one class only
    # Each split by itself: two halves of one class each are 1, together 2.
    halves = torch.cat([torch.eye(2)[:1].repeat(50, 1), torch.eye(2)[1:].repeat(50, 1)])
    assert inception_score(halves, 2)[0] == pytest.approx(1) and inception_score(halves, 1)[0] == pytest.approx(2)
    with pytest.raises(ValueError, match="10 splits"):
        inception_score(sure[:9])
