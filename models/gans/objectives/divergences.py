"""The divergences of f-GAN (Nowozin, Cseke, Tomioka 2016): tables 1, 2, 5, 6 as functions that stay finite.

D_f(P || Q) = integral q f(p / q), bounded from below by E_P[t] - E_Q[f*(t)] with t = g_f(v), v the critic's score;
the bound is tight at t = f'(p / q). Where the paper's tables differ, all activations here increase, so that a larger
score always means real: `f(u) = -log u`, `(1 - u)^2 / u` and `(sqrt u - 1)^2` have -exp(-v) and 1 - exp(-v) (table 2)
rather than their mirror images (table 6).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.gans.objectives.scores import Fn, ScoreRule

LOG2 = math.log(2.0)


class Divergence(NamedTuple):
    """One row of the tables."""

    f: Fn
    """The generating function, u > 0. f(1) is 0 but for `gan` (-2 log 2)."""
    conjugate: Fn
    """f*(t) = sup over u > 0 of u t - f(u), on its domain: the textbook form, for tests."""
    activation: Fn
    """g_f(v): any score to the conjugate's domain."""
    composite: Fn
    """f*(g_f(v)), finite for any score."""
    threshold: float
    """The score at which f'(1) = g_f(v): above it the critic says real."""

    def rule(self, heuristic: bool = False) -> ScoreRule:
        """The critic maximises the bound. The generator minimises it (the paper's algorithm 1), or, `heuristic`,
        maximises E_Q[g_f(v)] (section 3.2)."""
        generator: Fn = (lambda v: -self.activation(v)) if heuristic else (lambda v: -self.composite(v))
        return ScoreRule(lambda v: -self.activation(v), self.composite, generator)


def bounded_exp(x: Tensor) -> Tensor:
    """exp(x), going on as its tangent from the dtype's largest exponent less 16 on, so that means over large batches
    of it stay finite (float32: from x = 72.7)."""
    top = math.log(torch.finfo(x.dtype).max) - 16
    low = x.clamp(max=top).exp()
    return torch.where(x > top, low * (1 + (x - top).clamp(min=0)), low)


def pearson_conjugate(t: Tensor) -> Tensor:
    """t^2 / 4 + t, and -1 below t = -2: u >= 0 makes it monotone there (the tables' form grows again, which turns the
    generator's gradient around)."""
    t = t.clamp(min=-2)
    found: Tensor = t.square() / 4 + t
    return found


class _JeffreyConjugate(torch.autograd.Function):
    """w + 1/w + t - 2 with w + log w = 1 - t, i.e. w = W(exp(1 - t)), solved for log w; its derivative is 1 / w."""

    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:
        y = 1 - t
        # Newton's iteration on l + e^l = y falls monotonically to the root from any start above it.
        log_w = torch.where(y > 1, y.clamp(min=1).log(), y)
        for _ in range(12):
            e = log_w.exp()
            log_w = log_w - (log_w + e - y) / (1 + e)
        inverse = bounded_exp(-log_w)
        ctx.save_for_backward(inverse)
        return log_w.exp() + inverse + t - 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        inverse: Tensor = ctx.saved_tensors[0]
        return grad * inverse


def jeffrey_conjugate(t: Tensor) -> Tensor:
    """W(e^(1-t)) + 1 / W(e^(1-t)) + t - 2, W Lambert's function."""
    found: Tensor = _JeffreyConjugate.apply(t)  # type: ignore[no-untyped-call]
    return found


def _log_softplus(v: Tensor) -> Tensor:
    """log(log(1 + e^v)), also where e^v is nothing beside 1."""
    low = v.clamp(max=-15)
    return torch.where(v < -15, low - low.exp() / 2, F.softplus(v.clamp(min=-15)).log())


def _weighted_js_composite(v: Tensor, pi: float) -> Tensor:
    """(1 - pi) (log(1 - pi) - log(1 - sigmoid(v)^(1/pi)))."""
    s = F.softplus(-v) / pi  # sigmoid(v)^(1/pi) = e^-s
    small, large = s.clamp(max=LOG2), s.clamp(min=LOG2)
    # 1 - e^-s = s (1 - s/2 + ...): the logarithm of s is taken from v, as s itself underflows.
    ratio = torch.where(small > 1e-3, -torch.expm1(-small) / small.clamp(min=1e-3), 1 - small / 2 + small.square() / 6)
    log_rest = torch.where(s < LOG2, _log_softplus(-v) - math.log(pi) + ratio.log(), torch.log1p(-torch.exp(-large)))
    return (1 - pi) * (math.log(1 - pi) - log_rest)


def weighted_jensen_shannon(pi: float) -> Divergence:
    """Jensen-Shannon with weights pi and 1 - pi.

    Raises:
        ValueError: pi is not between 0 and 1.
    """
    if not 0 < pi < 1:
        raise ValueError(f"--pi {pi}: give a number between 0 and 1")
    top = -pi * math.log(pi)
    return Divergence(
        lambda u: pi * torch.xlogy(u, u) - torch.xlogy(1 - pi + pi * u, 1 - pi + pi * u),
        lambda t: (1 - pi) * (math.log(1 - pi) - torch.log(1 - pi * torch.exp(t / pi))),
        lambda v: top - F.softplus(-v),
        lambda v: _weighted_js_composite(v, pi),
        # softplus(-v) = -pi log pi
        -math.log(math.expm1(top)),
    )


DIVERGENCES: dict[str, Divergence] = {
    "total-variation": Divergence(
        lambda u: 0.5 * (u - 1).abs(), lambda t: t, lambda v: 0.5 * v.tanh(), lambda v: 0.5 * v.tanh(), 0.0
    ),
    "kl": Divergence(
        lambda u: torch.xlogy(u, u), lambda t: (t - 1).exp(), lambda v: v, lambda v: bounded_exp(v - 1), 1.0
    ),
    "reverse-kl": Divergence(
        lambda u: -u.log(), lambda t: -1 - (-t).log(), lambda v: -bounded_exp(-v), lambda v: v - 1, 0.0
    ),
    "pearson": Divergence(lambda u: (u - 1).square(), pearson_conjugate, lambda v: v, pearson_conjugate, 0.0),
    "neyman": Divergence(
        lambda u: (1 - u).square() / u,
        lambda t: 2 - 2 * (1 - t).sqrt(),
        lambda v: 1 - bounded_exp(-v),
        lambda v: 2 - 2 * bounded_exp(-v / 2),
        0.0,
    ),
    "squared-hellinger": Divergence(
        lambda u: (u.sqrt() - 1).square(),
        lambda t: t / (1 - t),
        lambda v: 1 - bounded_exp(-v),
        lambda v: bounded_exp(v) - 1,
        0.0,
    ),
    "jeffrey": Divergence(lambda u: (u - 1) * u.log(), jeffrey_conjugate, lambda v: v, jeffrey_conjugate, 0.0),
    "jensen-shannon": Divergence(
        lambda u: -(u + 1) * ((1 + u) / 2).log() + torch.xlogy(u, u),
        lambda t: -torch.log(2 - t.exp()),
        lambda v: LOG2 - F.softplus(-v),
        lambda v: F.softplus(v) - LOG2,
        0.0,
    ),
    "weighted-jensen-shannon": weighted_jensen_shannon(0.3),
    "gan": Divergence(
        lambda u: torch.xlogy(u, u) - (u + 1) * (u + 1).log(),
        lambda t: -torch.log(1 - t.exp()),
        lambda v: -F.softplus(-v),
        F.softplus,
        0.0,
    ),
}
"""By name. `jensen-shannon` is twice the usual Jensen-Shannon divergence; `weighted_jensen_shannon(0.5)` is it."""
