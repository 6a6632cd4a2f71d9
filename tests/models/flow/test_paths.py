"""Flow matching between two Gaussians, where everything has a closed form."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from models.common.layers import initialise, kaiming
from models.common.seeds import seeded
from models.flow.networks import VelocityNet, waves
from models.flow.paths import between, euler, heun, matching_loss, straightness

MEAN, DEVIATION = 2.0, 0.5
"""The data: N(MEAN, DEVIATION^2) in each entry; the noise: N(0, 1), independent of it."""


def variance(t: float) -> float:
    return (1 - t) ** 2 + (t * DEVIATION) ** 2


def closed_velocity(x: Tensor, t: Tensor) -> Tensor:
    """E[x_1 - x_0 | x_t = x] = m + (t s^2 - (1 - t)) / ((1 - t)^2 + t^2 s^2) (x - t m)."""
    time = t.view(-1, *[1] * (x.ndim - 1))
    slope = (time * DEVIATION**2 - (1 - time)) / ((1 - time) ** 2 + (time * DEVIATION) ** 2)
    return MEAN + slope * (x - time * MEAN)


def exact(noise: Tensor) -> Tensor:
    """Where the flow takes x_0: x_t = t m + sqrt(var_t) x_0, at t = 1."""
    return MEAN + DEVIATION * noise


def test_paths_by_hand() -> None:
    noise, data = (torch.randn(5, 3, 2, generator=seeded(i), dtype=torch.float64) for i in (0, 1))
    t = torch.rand(5, generator=seeded(2), dtype=torch.float64)
    x, v = between(noise, data, t)
    for b in range(5):
        torch.testing.assert_close(x[b], noise[b] + float(t[b]) * (data[b] - noise[b]))
    assert torch.equal(v, data - noise)
    assert torch.equal(between(noise, data, torch.zeros(5))[0], noise)
    torch.testing.assert_close(between(noise, data, torch.ones(5))[0], data)


def test_the_loss_is_least_at_the_closed_velocity() -> None:
    """At each t the best affine velocity, by regression on samples, is the closed form's slope and intercept."""
    n = 200_000
    noise, unit = (torch.randn(n, generator=seeded(i), dtype=torch.float64) for i in (0, 1))
    data = MEAN + DEVIATION * unit
    for t in (0.0, 0.3, 0.7, 1.0):
        x, v = between(noise, data, torch.full((n,), t, dtype=torch.float64))
        slope = float(((x - x.mean()) * (v - v.mean())).mean() / x.var())
        wanted = (t * DEVIATION**2 - (1 - t)) / variance(t)
        assert slope == pytest.approx(wanted, abs=0.02)  # about 4 deviations of the estimate
        assert float(v.mean() - slope * x.mean()) == pytest.approx(MEAN - wanted * t * MEAN, abs=0.03)
    t_all = torch.rand(n, generator=seeded(3), dtype=torch.float64)
    least = float(matching_loss(closed_velocity, noise, data, t_all))
    # Its value: the mean over t of Var(x_1 - x_0 | x_t) = 1 + s^2 - (t s^2 - (1 - t))^2 / var_t, by the midpoint rule.
    times = [(i + 0.5) / 2000 for i in range(2000)]
    conditional = [1 + DEVIATION**2 - (t * DEVIATION**2 - (1 - t)) ** 2 / variance(t) for t in times]
    assert least == pytest.approx(sum(conditional) / 2000, rel=0.02)
    for change in (0.05, -0.05):
        assert float(matching_loss(lambda x, t, c=change: closed_velocity(x, t) + c, noise, data, t_all)) > least  # type: ignore[misc]


@pytest.mark.parametrize(("solver", "order", "at_16"), [(euler, 1, 0.1), (heun, 2, 0.01)])
def test_error_against_steps(solver: Callable[..., Tensor], order: int, at_16: float) -> None:
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    errors = [float((solver(closed_velocity, noise, n) - exact(noise)).abs().max()) for n in (16, 32, 64, 128)]
    assert errors[0] < at_16
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25)
    assert float((solver(closed_velocity, noise, 4096) - exact(noise)).abs().max()) < 1e-3 / 64 ** (order - 1)


def test_straightness() -> None:
    """0 for a constant velocity; for the Gaussian pair, the integral of (x_1 - x_0 - dx_t/dt)^2 in closed form."""
    noise = torch.randn(20_000, 1, generator=seeded(0), dtype=torch.float64)
    assert float(straightness(lambda x, t: torch.full_like(x, MEAN), noise, 8)) < 1e-20
    times = [(i + 0.5) / 4000 for i in range(4000)]
    # x_t = t m + r(t) x_0, r = sqrt(var_t): x_1 - x_0 - x_t' = (s - 1 - r'(t)) x_0.
    slopes = [(t * DEVIATION**2 - (1 - t)) / variance(t) ** 0.5 for t in times]
    wanted = sum((DEVIATION - 1 - r) ** 2 for r in slopes) / len(slopes)
    found = float(straightness(closed_velocity, noise, 500))
    assert wanted > 0.05 and found == pytest.approx(wanted * float(noise.square().mean()), rel=0.02)


def test_network() -> None:
    net = VelocityNet(3, 2, (8, 16, 16))
    before = torch.random.get_rng_state()
    net.draw(seeded(0))
    assert torch.equal(before, torch.random.get_rng_state())
    x, given = torch.randn(2, 2, 12, 16, generator=seeded(1)), torch.randn(2, 3, 12, 16, generator=seeded(2))
    # The last layer starts from zero, the guess that all targets are grey: v = -x / (1 - t), with 1 - t at least 0.05.
    t = torch.tensor([0.1, 0.99])
    torch.testing.assert_close(net(x, t, given), -x / torch.tensor([0.9, 0.05]).view(2, 1, 1, 1))
    t = torch.tensor([0.1, 0.9])
    initialise(net, seeded(3), kaiming())
    out = net(x, t, given)
    assert out.shape == x.shape
    assert not torch.allclose(out, net(x, t.flip(0), given)) and not torch.allclose(out, net(x, t, given.flip(0)))
    torch.testing.assert_close(out[:1], net(x[:1], t[:1], given[:1]), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="10 x 16 pixels: the sides must be multiples of 4"):
        net(x[:, :, :10], t, given[:, :, :10])
    assert waves(t, 8).shape == (2, 8)
    torch.testing.assert_close(waves(t, 8)[:, 0], (1000 * t).sin())


def test_a_patch_is_a_pixel_of_the_network() -> None:
    """Squares of 2 by 2 pixels become channels, colour by colour, row by row; the same network sees them."""
    net, plain = VelocityNet(3, 3, (8, 16), patch=2), VelocityNet(12, 12, (8, 16))
    initialise(net, seeded(3), kaiming())
    plain.load_state_dict(net.state_dict())
    x, given = torch.randn(2, 2, 3, 8, 12, generator=seeded(1))
    t = torch.tensor([0.1, 0.9])

    def squares(image: Tensor) -> Tensor:
        return torch.stack([image[:, c, i::2, j::2] for c in range(3) for i in (0, 1) for j in (0, 1)], 1)

    out, wanted = net(x, t, given), plain(squares(x), t, squares(given))
    assert out.shape == x.shape
    torch.testing.assert_close(squares(out), wanted)
    assert net.multiple == 4
    with pytest.raises(ValueError, match="10 x 12 pixels: the sides must be multiples of 4"):
        net(x[:, :, :2].repeat(1, 1, 5, 1), t, given)


def test_weights_of_a_network_that_gave_the_velocity_itself_are_refused() -> None:
    net = VelocityNet(3, 3, (8, 16))
    earlier = {name: value for name, value in net.state_dict().items() if name != "least"}
    with pytest.raises(RuntimeError, match=r'Missing key.*"least"'):
        net.load_state_dict(earlier)
