"""f-GAN's divergences: each conjugate is the supremum it stands for, each stable form the naive one, and finite."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.common.seeds import seeded
from models.gans.objectives.divergences import DIVERGENCES, Divergence, bounded_exp, weighted_jensen_shannon

INF = float("inf")
ALL = {**DIVERGENCES, "js-weighted-0.5": weighted_jensen_shannon(0.5), "js-weighted-0.7": weighted_jensen_shannon(0.7)}
NAMES = sorted(ALL)

DOMAINS = {
    "total-variation": (-0.5, 0.5),
    "kl": (-INF, INF),
    "reverse-kl": (-INF, 0),
    "pearson": (-INF, INF),
    "neyman": (-INF, 1),
    "squared-hellinger": (-INF, 1),
    "jeffrey": (-INF, INF),
    "jensen-shannon": (-INF, math.log(2)),
    "weighted-jensen-shannon": (-INF, -0.3 * math.log(0.3)),
    "js-weighted-0.5": (-INF, -0.5 * math.log(0.5)),
    "js-weighted-0.7": (-INF, -0.7 * math.log(0.7)),
    "gan": (-INF, 0),
}
"""Where f* is finite (the paper's table 2)."""


def derivative(d: Divergence, u: Tensor) -> Tensor:
    u = u.detach().requires_grad_()
    return torch.autograd.grad(d.f(u).sum(), u)[0]


def numbers(low: float, high: float, count: int) -> Tensor:
    return torch.linspace(low, high, count, dtype=torch.float64)


def supremum(d: Divergence, t: Tensor) -> Tensor:
    """Of u t - f(u) over a fine grid of u > 0."""
    u = torch.logspace(-9, 6, 100_001, dtype=torch.float64)
    return torch.stack([(u * one - d.f(u)).max() for one in t])


def simplex(n: int, seed: int) -> Tensor:
    return torch.rand(n, generator=seeded(seed, "simplex"), dtype=torch.float64).mul(3).softmax(0)


def points(name: str) -> Tensor:
    """Of the conjugate's domain: the derivative's values at ratios from 1/20 to 20."""
    if name == "total-variation":
        return numbers(-0.49, 0.49, 15)
    return derivative(ALL[name], torch.logspace(-1.3, 1.3, 15, dtype=torch.float64))


@pytest.mark.parametrize("name", NAMES)
def test_the_conjugate_is_the_supremum(name: str) -> None:
    t = points(name)
    torch.testing.assert_close(ALL[name].conjugate(t), supremum(ALL[name], t), rtol=1e-5, atol=1e-5)


def test_pearsons_conjugate_is_flat_where_the_table_grows_again() -> None:
    d, t = DIVERGENCES["pearson"], torch.tensor([-5.0, -3.0, -2.0], dtype=torch.float64)
    assert d.conjugate(t).tolist() == [-1, -1, -1]
    torch.testing.assert_close(supremum(d, t), d.conjugate(t), rtol=0, atol=1e-6)
    assert float(t[0] ** 2 / 4 + t[0]) > 1  # the table's form there
    # Minimax: the generator's gradient never points away from larger scores.
    v = numbers(-10, 10, 101).requires_grad_()
    (slope,) = torch.autograd.grad(d.rule().generator(v).sum(), v)
    assert bool((slope <= 0).all()) and bool((slope[v > -2] < 0).all())


@pytest.mark.parametrize("name", NAMES)
def test_the_activation_fills_the_domain_and_increases(name: str) -> None:
    low, high = DOMAINS[name]
    v = numbers(-30, 30, 601)
    t = ALL[name].activation(v)
    assert bool((t >= low).all()) and bool((t <= high).all())
    steps = t.diff()
    assert bool((steps >= 0).all()) and bool((steps[280:320] > 0).all())  # saturated ends may repeat a number
    assert float(t[0]) <= -25 if low == -INF else float(t[0]) == pytest.approx(low, abs=1e-9)
    assert float(t[-1]) >= 25 if high == INF else float(t[-1]) == pytest.approx(high, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_stable_form_is_the_naive_one(name: str) -> None:
    d, v = ALL[name], numbers(-20, 20, 401)
    naive = d.conjugate(d.activation(v))
    fine = naive.isfinite()
    assert int(fine.sum()) > 350
    # The naive forms lose half of their digits at the ends: log(1 - e^t) with t near 0.
    torch.testing.assert_close(d.composite(v)[fine], naive[fine], rtol=2e-7, atol=2e-7)
    middle = v.abs() <= 3
    torch.testing.assert_close(d.composite(v)[middle], naive[middle], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 30, 89, 100])
def test_finite_with_finite_gradients_in_float32(name: str, size: int) -> None:
    rule, other = ALL[name].rule(), ALL[name].rule(heuristic=True)
    for loss in (*rule, other.generator):
        v = torch.tensor([-float(size), float(size)]).repeat(4096, 1).requires_grad_()
        value = loss(v).mean()
        (slope,) = torch.autograd.grad(value, v)
        assert bool(value.isfinite()) and bool(slope.isfinite().all())


def test_composing_the_naive_forms_is_not_finite() -> None:
    d, v = DIVERGENCES["squared-hellinger"], torch.tensor([100.0])
    assert not bool(d.conjugate(1 - (-v).exp()).isfinite())


def test_bounded_exp_goes_on_as_its_tangent() -> None:
    x = torch.tensor([0.0, 70.0, 72.0])
    assert torch.equal(bounded_exp(x), x.exp())
    v = torch.tensor([80.0, 90.0], requires_grad=True)
    (slope,) = torch.autograd.grad(bounded_exp(v).sum(), v)
    assert (
        float(slope[0]) == float(slope[1]) == pytest.approx(math.exp(math.log(torch.finfo(v.dtype).max) - 16), rel=1e-4)
    )
    wide = torch.tensor([100.0], dtype=torch.float64)
    assert float(bounded_exp(wide)) == math.exp(100)


@pytest.mark.parametrize("name", NAMES)
def test_the_threshold_is_where_both_are_alike(name: str) -> None:
    d = ALL[name]
    level = 0.0 if name == "total-variation" else float(derivative(d, torch.ones(1, dtype=torch.float64)))
    v = torch.tensor([d.threshold], dtype=torch.float64)
    assert float(d.activation(v)) == pytest.approx(level, abs=1e-12)


def test_published_thresholds() -> None:
    found = {name: round(ALL[name].threshold, 3) for name in NAMES if ALL[name].threshold}
    assert found == {"kl": 1, "weighted-jensen-shannon": 0.832, "js-weighted-0.5": 0.881, "js-weighted-0.7": 1.26}


@pytest.mark.parametrize("name", [n for n in NAMES if n != "total-variation"])
def test_the_bound_is_tight_at_the_derivative_of_the_ratio(name: str) -> None:
    d, p, q = ALL[name], simplex(12, 1), simplex(12, 2)
    t = derivative(d, p / q)
    assert float((p * t - q * d.conjugate(t)).sum()) == pytest.approx(float((q * d.f(p / q)).sum()), abs=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_maximising_the_rule_gives_the_divergence(name: str) -> None:
    """A score for each of 6 outcomes, by gradient descent on the critic's loss."""
    d, p, q = ALL[name], simplex(6, 3), simplex(6, 4)
    rule, v = d.rule(), torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([v], lr=1, max_iter=800, line_search_fn="strong_wolfe", tolerance_grad=1e-12)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = (p * rule.real(v) + q * rule.fake(v)).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[arg-type]
    wanted = float((q * d.f(p / q)).sum())
    assert -float(loss().detach()) == pytest.approx(wanted, abs=1e-4 if name == "total-variation" else 1e-8)
    assert wanted > float(d.f(torch.ones(1))) + 1e-3


def test_names_that_mean_multiples_of_each_other() -> None:
    u = numbers(0.05, 20, 200)
    js, gan, half = (ALL[n].f(u) for n in ("jensen-shannon", "gan", "js-weighted-0.5"))
    torch.testing.assert_close(half * 2, js)
    torch.testing.assert_close(gan + (u + 1) * math.log(2), js)  # its integral is D_GAN + log 4
    at_one = {name: float(d.f(torch.ones(1, dtype=torch.float64))) for name, d in ALL.items()}
    assert at_one.pop("gan") == pytest.approx(-2 * math.log(2))
    assert all(value == pytest.approx(0, abs=1e-15) for value in at_one.values())


def test_the_generators_rules() -> None:
    d, v = DIVERGENCES["kl"], numbers(-2, 2, 9)
    torch.testing.assert_close(d.rule().generator(v), -(v - 1).exp())
    torch.testing.assert_close(d.rule(heuristic=True).generator(v), -v)


def test_weights_outside_are_refused() -> None:
    with pytest.raises(ValueError, match=r"--pi 1\.0: give a number between 0 and 1"):
        weighted_jensen_shannon(1.0)


def test_jeffreys_derivative() -> None:
    t = numbers(-40, 12, 53).requires_grad_()
    assert torch.autograd.gradcheck(DIVERGENCES["jeffrey"].conjugate, (t,), rtol=1e-6)
