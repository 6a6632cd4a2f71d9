"""Penalties on the critic's gradient, where they are taken, and constraints on its weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.gans.terms import Critic, Losses, Points, Round

NORM_EPS = 1e-12
"""Under the root: at a zero gradient its derivative is 0, not NaN."""


def gradient_norms(outputs: Tensor, x: Tensor) -> Tensor:
    """`B`: Euclidean norm of each sample's gradient, over all its dimensions, differentiable once more.

    Args:
        outputs: `B`, each a function of its own row of `x`.
    """
    (gradient,) = torch.autograd.grad(outputs.sum(), x, create_graph=True)
    return (gradient.flatten(1).square().sum(1) + NORM_EPS).sqrt()


def interpolate(round: Round) -> Tensor:
    """eps x + (1 - eps) G, one eps ~ U[0, 1) a sample (Gulrajani et al. 2017, algorithm 1)."""
    real, fake = round.real.x.detach(), round.fake.x.detach()
    eps = round.random.uniform(len(real)).to(real).view(-1, *[1] * (real.ndim - 1))
    return eps * real + (1 - eps) * fake


@dataclass(frozen=True)
class Perturb:
    """x + delta, delta ~ N(0, (radius s)^2) with s the batch's standard deviation, one number over all workers.

    Zero-mean noise as in the paper (Kodali et al. 2017, eq. 4); its size is relative to the data's as in the released
    notebook (radius 0.5), whose noise is positive only. No fakes are looked at.
    """

    radius: float = 0.5

    def __call__(self, round: Round) -> Tensor:
        real = round.real.x.detach()
        deviation = round.group.gather(real).std(correction=0)
        noise = round.random.normal(*real.shape).to(real)
        return real + self.radius * deviation * noise


@dataclass(frozen=True)
class GradientPenalty:
    """weight * mean over the samples of (|gradient of the head at the points| - target)^2.

    With target 1: Gulrajani et al. 2017, eq. 3, at `interpolate`; Kodali et al. 2017, eq. 4, at `Perturb` (there of the
    logit, not of its sigmoid).
    """

    points: Points
    weight: float = 10.0
    target: float = 1.0
    head: str = "score"

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise ValueError(f"--penalty-weight {self.weight}: give more than 0")

    def __call__(self, critic: Critic, round: Round) -> Losses:
        x = self.points(round).detach().requires_grad_()
        with torch.autocast(x.device.type, enabled=False):  # second derivatives in full precision
            norms = gradient_norms(critic(x, round.real.y, round.random)[self.head], x)
        return {"penalty": self.weight * (norms - self.target).square().mean()}


@dataclass(frozen=True)
class ClipWeights:
    """Every parameter into [-limit, limit], after each critic step (Arjovsky et al. 2017, algorithm 1)."""

    limit: float

    def __post_init__(self) -> None:
        if self.limit <= 0:
            raise ValueError(f"--clip {self.limit}: give more than 0")

    @torch.no_grad()
    def __call__(self, critic: nn.Module) -> None:
        for p in critic.parameters():
            p.clamp_(-self.limit, self.limit)
