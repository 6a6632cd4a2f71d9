"""Heads: masses that sum to 1, closed forms, levels of pictures."""

import math

import pytest
import torch

from models.common.seeds import seeded
from models.pixelcnn.heads import Bernoulli, Head, Mixture, Softmax, levels_of, scaled

HEADS = [Softmax(1, 256), Softmax(3, 16), Bernoulli(1), Bernoulli(3), Mixture(1, 256, 5), Mixture(3, 256, 3)]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
def test_levels_sum_to_1_and_agree_with_the_likelihood(head: Head, spread: float) -> None:
    channels = getattr(head, "channels", None) or head.outputs
    generator = seeded(0, str(spread))
    outputs = torch.randn(3, head.outputs, generator=generator, dtype=torch.float64) * spread
    x = torch.randint(0, head.levels, (3, channels), generator=generator)
    total = torch.zeros(3, dtype=torch.float64)
    for c in range(channels):
        log_p = head.given(outputs, x, c)
        assert log_p.exp().sum(1).tolist() == pytest.approx([1, 1, 1], abs=1e-12)
        total += log_p.gather(1, x[:, c : c + 1])[:, 0]
    assert torch.allclose(head.log_prob(outputs[:, :, None, None], x[:, :, None, None])[:, 0, 0], total, rtol=1e-9)


@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
def test_a_mixtures_masses_sum_to_1_before_any_normalisation(spread: float) -> None:
    """Telescoping: the bins share their edges, and the outer ones are open."""
    head = Mixture(1, 256, 4)
    outputs = torch.randn(5, head.outputs, generator=seeded(1, str(spread)), dtype=torch.float64) * spread
    x = torch.arange(256).view(-1, 1, 1, 1)
    for row in outputs:
        masses = head.log_prob(row[None, :, None, None].expand(256, -1, -1, -1), x).exp()
        assert float(masses.sum()) == pytest.approx(1, abs=1e-10)


def test_a_mixture_is_the_difference_of_distribution_functions() -> None:
    """Naively, in double precision, for three channels: eq. 1-3 of PixelCNN++."""
    head = Mixture(3, 256, 2)
    outputs = torch.randn(head.outputs, generator=seeded(2), dtype=torch.float64)
    x = torch.tensor([7, 255, 0])
    numbers = outputs.view(2, 10).tolist()
    value = [2 * v / 255 - 1 for v in x.tolist()]
    total = 0.0
    share = [math.exp(row[0]) for row in numbers]
    for row, weight in zip(numbers, share, strict=True):
        mean, scale, (g, b, c) = row[1:4], row[4:7], map(math.tanh, row[7:])
        means = [mean[0], mean[1] + g * value[0], mean[2] + b * value[0] + c * value[1]]
        mass = weight / sum(share)
        for v, level, m, s in zip(value, x.tolist(), means, scale, strict=True):
            cdf = [1 / (1 + math.exp(-(v + half / 255 - m) / math.exp(s))) for half in (1, -1)]
            mass *= (1.0 if level == 255 else cdf[0]) - (0.0 if level == 0 else cdf[1])
        total += mass
    found = head.log_prob(outputs.view(1, -1, 1, 1), x.view(1, 3, 1, 1))
    assert float(found) == pytest.approx(math.log(total), rel=1e-10)


def test_a_far_away_level_keeps_a_finite_likelihood_and_gradient() -> None:
    """Where the difference of two sigmoids is 0 in float32."""
    head = Mixture(1, 256, 1)
    outputs = torch.tensor([0.0, -1.0, -9.0]).view(1, 3, 1, 1).requires_grad_()
    found = head.log_prob(outputs, torch.full((1, 1, 1, 1), 200))
    found.sum().backward()
    found = found.detach()
    assert bool(found.isfinite().all()) and float(found) < -100
    assert outputs.grad is not None and bool(outputs.grad.isfinite().all())
    # ln sigma(a) - ln sigma(-b) + ln(1 - e^(b - a)), a and b far out on the right: -b, with the floor of -7 on ln s
    away = (scaled(torch.tensor(200), 256) + 1 - 1 / 255) * math.exp(7)
    assert float(found) == pytest.approx(-float(away), rel=1e-4)


def test_rounding_brings_back_all_256_levels_and_truncation_does_not() -> None:
    x = torch.arange(256)
    pictures = x.to(torch.float32) / 255 * 2 - 1
    assert torch.equal(levels_of(pictures, 256), x)
    truncated = ((pictures + 1) / 2 * 255).to(torch.uint8).long()
    assert int((truncated == x - 1).sum()) == 63 and int((truncated == x).sum()) == 256 - 63


def test_pictures_that_are_not_of_the_levels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"127\.5 is not one of the integers 0-255"):
        levels_of(torch.zeros(1, 1, 1, 1), 256)
    for wrong in (1.1, float("nan")):
        with pytest.raises(ValueError, match="not one of the integers 0-1"):
            levels_of(torch.tensor([-1.0, wrong]), 2)
