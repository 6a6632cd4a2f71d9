"""Score rules against their formulas, LSGAN's identities, the equilibria of GAN, LSGAN and EBGAN."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.common.seeds import seeded
from models.gans.objectives.scores import (
    Adversarial,
    ScoreRule,
    hinge_energy,
    least_squares,
    minimax,
    nonsaturating,
    wasserstein,
)
from models.gans.terms import Random, Round, Seen, Side
from models.group import Group

NOTHING = Round(Side(torch.empty(0)), Side(torch.empty(0)), Random(seeded(0), Group()), Group())


def distributions(seed: int, n: int = 20) -> tuple[Tensor, Tensor]:
    g = seeded("distributions", seed)
    p, q = (torch.randn(n, generator=g, dtype=torch.float64).mul(2).softmax(0) for _ in range(2))
    return p, q


def test_minimax_and_nonsaturating_are_goodfellows() -> None:
    s = torch.linspace(-5, 5, 21, dtype=torch.float64)
    d = s.sigmoid()
    for rule in (minimax(), nonsaturating()):
        torch.testing.assert_close(rule.real(s), -d.log())
        torch.testing.assert_close(rule.fake(s), -(1 - d).log())
    torch.testing.assert_close(minimax().generator(s), (1 - d).log())
    torch.testing.assert_close(nonsaturating().generator(s), -d.log())


def test_only_minimax_saturates_on_rejected_fakes() -> None:
    slopes = []
    for rule in (minimax(), nonsaturating()):
        s = torch.tensor([-10.0], requires_grad=True)
        slopes.append(float(torch.autograd.grad(rule.generator(s), s)[0]))
    assert -1e-4 < slopes[0] < 0 and slopes[1] == pytest.approx(-1, abs=1e-4)


def test_at_equal_distributions_the_gans_value_is_log_4() -> None:
    s = torch.zeros(1)
    assert float(minimax().real(s) + minimax().fake(s)) == pytest.approx(math.log(4))


def optimal(rule: ScoreRule, p: Tensor, q: Tensor) -> Tensor:
    """Scores with the least critic's loss, for a rule whose derivative is linear: one Newton step."""
    s = torch.zeros_like(p, requires_grad=True)
    (slope,) = torch.autograd.grad((p * rule.real(s) + q * rule.fake(s)).sum(), s, create_graph=True)
    (curve,) = torch.autograd.grad(slope.sum(), s)
    return (s - slope / curve).detach()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("labels", [(0.0, 1.0, 1.0), (-1.0, 1.0, 0.0), (-2.0, 3.0, 0.5)])
def test_lsgans_optimal_critic(labels: tuple[float, float, float], seed: int) -> None:
    a, b, c = labels
    p, q = distributions(seed)
    torch.testing.assert_close(optimal(least_squares(a, b, c), p, q), (b * p + a * q) / (p + q), rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_lsgans_two_identities(seed: int) -> None:
    """2 C(G) = E_p (D* - c)^2 + E_q (D* - c)^2: Pearson's chi^2(p + q || 2q) with b - c = 1 and b - a = 2; the sum of
    q^2 / (p + q) with (0, 1, 1), which is another number."""
    p, q = distributions(seed)

    def twice(rule: ScoreRule) -> float:
        s = optimal(rule, p, q)
        return 2 * float((p * rule.generator(s) + q * rule.generator(s)).sum())

    pearson = float(((p - q).square() / (p + q)).sum())
    assert twice(least_squares(-1, 1, 0)) == pytest.approx(pearson, abs=1e-10)
    assert twice(least_squares(0, 1, 1)) == pytest.approx(float((q.square() / (p + q)).sum()), abs=1e-10)
    assert twice(least_squares(0, 1, 1)) > 0.5
    assert abs(twice(least_squares(0, 1, 1)) - pearson) > 0.1


def test_lsgan_at_equilibrium() -> None:
    p, _ = distributions(0)
    rule = least_squares()
    s = optimal(rule, p, p)
    torch.testing.assert_close(s, torch.full_like(s, 0.5))
    assert float((p * rule.real(s) + p * rule.fake(s)).sum()) == pytest.approx(0.25)
    assert float((p * rule.generator(s)).sum()) == pytest.approx(0.125)


def test_wasserstein_pulls_fakes_towards_the_data() -> None:
    """Data at 3, a fake at 0, a critic that rises from fake to real: the sign of f(x) - f(G)."""
    w = torch.tensor([0.0], requires_grad=True)
    real, fake = w * 3.0, w * 0.0
    (slope,) = torch.autograd.grad((wasserstein().real(real) + wasserstein().fake(fake)).sum(), w)
    assert float(slope) == -3  # descent raises w
    theta = torch.tensor([0.0], requires_grad=True)
    (moves,) = torch.autograd.grad(wasserstein().generator(1.0 * theta), theta)
    assert float(moves) == -1  # descent moves the fake up, to the data


def test_ebgans_hinge_is_each_samples_own() -> None:
    rule = hinge_energy(10.0)
    term = Adversarial(rule, "energy")
    seen = Seen({"energy": torch.tensor([1.0, 3.0])}, {"energy": torch.tensor([0.0, 20.0])}, {})
    losses = term.critic(seen, NOTHING)
    assert float(losses["real"]) == 2 and float(losses["fake"]) == 5  # of the mean energy it would be 0
    assert float(term.generator(seen, NOTHING)["fake"]) == 10
    with pytest.raises(ValueError, match=r"--margin 0: give more than 0"):
        hinge_energy(0)


@pytest.mark.parametrize("level", [0.0, 3.0, 10.0])
def test_ebgans_nash_value_is_the_margin(level: float) -> None:
    """p_G = p: any constant energy up to the margin is optimal, and the critic's loss is the margin."""
    p, q = distributions(1)
    rule = hinge_energy(10.0)
    constant = torch.full_like(p, level)
    assert float((p * rule.real(constant) + p * rule.fake(constant)).sum()) == pytest.approx(10.0, abs=1e-9)
    for other in torch.rand(200, len(p), generator=seeded("energies"), dtype=torch.float64) * 15:
        assert float((p * rule.real(other) + p * rule.fake(other)).sum()) >= 10 - 1e-9
    # p_G elsewhere: 0 where the data is likelier, the margin where fakes are; less than the margin.
    best = torch.where(p < q, 10.0, 0.0)
    value = float((p * rule.real(best) + q * rule.fake(best)).sum())
    assert value == pytest.approx(10 * float(torch.minimum(p, q).sum())) and value < 10


def test_what_is_watched() -> None:
    term = Adversarial(wasserstein(), measure="wasserstein")  # 0 is a threshold here for the test alone
    seen = Seen({"score": torch.tensor([1.0, 2.0])}, {"score": torch.tensor([-1.0, 0.5])}, {})
    assert float(term.after({"real": torch.tensor(-1.5), "fake": torch.tensor(-0.25)}, {})["wasserstein"]) == 1.75
    watched = term.watch(seen, NOTHING)
    assert float(watched["critic/accuracy"]) == 0.75 and float(watched["score/fake"]) == -0.25
    shifted = Adversarial(wasserstein(), threshold=1.5).watch(seen, NOTHING)  # an f-GAN's threshold need not be 0
    assert float(shifted["critic/accuracy"]) == 0.75
    lower = Adversarial(wasserstein(), threshold=0.75).watch(seen, NOTHING)
    assert float(lower["critic/accuracy"]) == 1
