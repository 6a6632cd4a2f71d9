"""Gradient penalties: norms of each sample, points on the right lines, both derivatives, the two point masses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.common.seeds import seeded
from models.gans.objectives.penalties import ClipWeights, GradientPenalty, Perturb, gradient_norms, interpolate
from models.gans.objectives.scores import nonsaturating, wasserstein
from models.gans.terms import Heads, Random, Round, Side
from models.group import Group


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded("images", seed), dtype=torch.float64)


def round_of(real: Tensor, fake: Tensor, seed: int = 0) -> Round:
    return Round(Side(real), Side(fake), Random(seeded("round", seed), Group()), Group())


class Net(nn.Module):
    """A smooth critic of pictures."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.first = nn.Parameter(images(inputs, 7, seed=11) * 0.3)
        self.second = nn.Parameter(images(7, seed=12))

    def forward(self, x: Tensor, y: Tensor | None, random: Random) -> Heads:
        return {"score": (x.flatten(1) @ self.first).tanh() @ self.second}


def loop_norms(net: Net, x: Tensor, random: Random) -> list[float]:
    """One sample at a time, summed in Python."""
    found = []
    for row in x:
        one = row[None].detach().requires_grad_()
        (g,) = torch.autograd.grad(net(one, None, random)["score"].sum(), one)
        found.append(math.sqrt(sum(v * v for v in g.flatten().tolist())))
    return found


def test_norms_are_each_samples_over_all_its_dimensions() -> None:
    net, x, random = Net(3 * 4 * 4), images(5, 3, 4, 4), Random(seeded(0), Group())
    wanted = loop_norms(net, x, random)
    x.requires_grad_()
    found = gradient_norms(net(x, None, random)["score"], x)
    assert found.tolist() == pytest.approx(wanted, rel=1e-10)
    (g,) = torch.autograd.grad(net(x, None, random)["score"].sum(), x)
    assert g.norm(2, dim=1).shape == (5, 4, 4)  # over the channels alone: another shape
    assert float(g.norm()) == pytest.approx(math.sqrt(sum(w * w for w in wanted)))  # over the batch: another number


def test_the_penalty_is_the_mean_of_the_samples() -> None:
    net, real, fake = Net(3 * 4 * 4), images(5, 3, 4, 4), images(5, 3, 4, 4, seed=1)
    found = GradientPenalty(interpolate, 10.0)(net, round_of(real, fake))["penalty"]
    points = interpolate(round_of(real, fake))
    wanted = 10 * sum((n - 1) ** 2 for n in loop_norms(net, points, Random(seeded(0), Group()))) / 5
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-9)


def test_one_number_a_sample_places_the_points() -> None:
    real, fake = images(200, 3, 4, 4), images(200, 3, 4, 4, seed=1)
    places = ((interpolate(round_of(real, fake)) - fake) / (real - fake)).flatten(1)
    assert float((places - places[:, :1]).abs().max()) < 1e-5  # float32 draws
    eps = places[:, 0]
    assert 0 <= float(eps.min()) < 0.05 and 0.95 < float(eps.max()) <= 1
    assert float(eps.mean()) == pytest.approx(0.5, abs=0.06)


def test_the_points_carry_no_graph_of_the_generator() -> None:
    theta = torch.ones(1, dtype=torch.float64, requires_grad=True)
    net, real = Net(48), images(4, 3, 4, 4)
    for penalty in (GradientPenalty(interpolate), GradientPenalty(Perturb())):
        loss = penalty(net, round_of(real, real * theta))["penalty"]
        (reached,) = torch.autograd.grad(loss, theta, allow_unused=True)
        assert reached is None


@pytest.mark.parametrize("points", [interpolate, Perturb(0.5)])
def test_the_penalty_moves_the_critic(points: object) -> None:
    """By the derivative of the derivative: checked by differences."""
    net, real, fake = Net(48), images(4, 3, 4, 4), images(4, 3, 4, 4, seed=1)
    penalty = GradientPenalty(points)  # type: ignore[arg-type]
    (g,) = torch.autograd.grad(penalty(net, round_of(real, fake))["penalty"], net.second)
    assert float(g.abs().min()) > 1e-4
    step = 1e-6
    for i in range(3):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                net.second[i] += sign * step
            values.append(float(penalty(net, round_of(real, fake))["penalty"].detach()))
            with torch.no_grad():
                net.second[i] -= sign * step
        assert float(g[i]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_a_flat_critic_gives_no_nan() -> None:
    net = Net(48)
    with torch.no_grad():
        net.second.zero_()
    loss = GradientPenalty(interpolate)(net, round_of(images(4, 3, 4, 4), images(4, 3, 4, 4, seed=1)))["penalty"]
    gradients = torch.autograd.grad(loss, [net.first, net.second])
    assert float(loss.detach()) == pytest.approx(10, abs=1e-4) and all(bool(g.isfinite().all()) for g in gradients)


def test_dragans_points_are_noise_around_the_data() -> None:
    """Zero mean (the released notebook's is positive only), one deviation for the whole batch, no fakes."""
    real = images(400, 1, 8, 8) * 3 + 5
    delta = Perturb(0.5)(round_of(real, torch.full_like(real, float("nan")))) - real
    deviation = float(real.std(correction=0))
    assert float(delta.std()) == pytest.approx(0.5 * deviation, rel=0.02)
    assert abs(float(delta.mean())) < 0.02 * deviation
    # Each element its own draw: pixels of a sample do not share one.
    assert float(delta.flatten(1).std(1).mean()) == pytest.approx(0.5 * deviation, rel=0.05)


def test_dragans_loss_and_penalty_both_reach_the_critic() -> None:
    net, real, fake = Net(48), images(4, 3, 4, 4), images(4, 3, 4, 4, seed=1)
    around = round_of(real, fake)
    rule, penalty = nonsaturating(), GradientPenalty(Perturb(), 10.0)
    scores = [net(x, None, around.random)["score"] for x in (real, fake)]
    loss = rule.real(scores[0]).mean() + rule.fake(scores[1]).mean()
    extra = penalty(net, round_of(real, fake))["penalty"]
    parts = [torch.autograd.grad(v, net.second, retain_graph=True)[0] for v in (loss, extra)]
    (both,) = torch.autograd.grad(loss + extra, net.second)
    torch.testing.assert_close(both, parts[0] + parts[1])
    assert all(float(p.abs().max()) > 0.01 for p in parts)


def test_the_gradient_is_the_scores_not_the_sigmoids() -> None:
    """A linear critic of slope 3: (3 - 1)^2, wherever the points lie."""

    def critic(x: Tensor, y: Tensor | None, random: Random) -> Heads:
        return {"score": 3 * x[:, 0]}

    real = images(6, 1) * 5
    loss = GradientPenalty(Perturb(), 10.0)(critic, round_of(real, real))["penalty"]
    assert float(loss) == pytest.approx(40, abs=1e-5)


@pytest.mark.parametrize(("theta", "weight"), [(1.0, 10.0), (1.0, 1.0), (3.0, 10.0), (1.0, 0.1)])
def test_two_point_masses(theta: float, weight: float) -> None:
    """Data at 0, fakes at theta: slope 1 + theta / (2 weight), gap theta + theta^2 / (2 weight)."""
    slope = torch.zeros(1, dtype=torch.float64, requires_grad=True)

    def critic(x: Tensor, y: Tensor | None, random: Random) -> Heads:
        return {"score": -(x @ slope[:, None])[:, 0]}

    real, fake = torch.zeros(8, 1, dtype=torch.float64), torch.full((8, 1), theta, dtype=torch.float64)
    penalty, rule = GradientPenalty(interpolate, weight), wasserstein()
    optimiser = torch.optim.Adam([slope], lr=0.05)
    gap = 0.0
    for i in range(1500):
        around = round_of(real, fake, i)
        scores = [critic(x, None, around.random)["score"] for x in (real, fake)]
        gap = float((scores[0] - scores[1]).detach().mean())
        loss = rule.real(scores[0]).mean() + rule.fake(scores[1]).mean() + penalty(critic, around)["penalty"]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert float(slope.detach()) == pytest.approx(1 + theta / (2 * weight), rel=0.01)
    assert gap == pytest.approx(theta + theta**2 / (2 * weight), rel=0.01)


def test_weights_are_clipped_and_buffers_are_not() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[-1.0, -0.02, 0.005]] * 3))
        net[1].running_mean.fill_(7)  # type: ignore[union-attr, operator]
    ClipWeights(0.01)(net)
    assert net[0].weight[0].detach().tolist() == pytest.approx([-0.01, -0.01, 0.005])
    assert float(net[1].running_mean[0]) == 7  # type: ignore[index, arg-type]
    assert max(float(p.detach().abs().max()) for p in net.parameters()) == pytest.approx(0.01)


def test_weights_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"--penalty-weight 0: give more than 0"):
        GradientPenalty(interpolate, 0)
    with pytest.raises(ValueError, match=r"--clip -1: give more than 0"):
        ClipWeights(-1)
