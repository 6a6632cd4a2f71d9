"""WGAN-GP on two point masses: slope and gap of the penalised critic in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from jobs.study.games.players import Affine, perceptron
from models.common.seeds import seeded
from models.gans.game import Game, Latent
from models.gans.objectives.penalties import GradientPenalty, interpolate
from models.gans.objectives.scores import Adversarial, wasserstein
from models.gans.terms import Random, Side
from models.group import Group


def penalised(settings: Sequence[tuple[float, float]], steps: int, seed: int) -> dict[str, float]:
    """Largest relative error of gap and slope over settings of (theta, lambda)."""
    errors = [0.0]
    for theta, weight in settings:
        gap, slope = point_masses(theta, weight, steps, seed)
        wanted = theta + theta**2 / (2 * weight), 1 + theta / (2 * weight)
        print(
            f"WGAN-GP theta {theta}, lambda {weight}: gap {gap:.4f} ({wanted[0]:.4f}), "
            f"slope {slope:.4f} ({wanted[1]:.4f})",
            flush=True,
        )
        errors += [abs(gap / wanted[0] - 1), abs(slope / wanted[1] - 1)]
    return {"wgan_gp_max_error": max(errors)}


def point_masses(theta: float, weight: float, steps: int, seed: int) -> tuple[float, float]:
    """(gap, mean slope between them) of a perceptron critic trained on data at 0 and fakes at theta."""
    drawn = seeded(seed, "point masses", repr((theta, weight)))
    critic = perceptron(1, (64, 64), "leaky-relu", drawn)
    still = Affine().requires_grad_(False)
    with torch.no_grad():
        still.mean.fill_(theta)
        still.deviation.zero_()
    optimiser = torch.optim.Adam(critic.parameters(), lr=1e-2, betas=(0.0, 0.9))
    term, penalty = Adversarial(wasserstein(), threshold=None), GradientPenalty(interpolate, weight)
    game = Game(still, critic, Latent(1), [term], optimiser, optimiser, Group(), [penalty])
    random, gaps = Random(drawn, Group()), list[float]()
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 1e-2 * min(1.0, 2 * (1 - step / steps))
        losses, _, _ = game.critic_losses(lambda: (Side(torch.zeros(64, 1)), None), random)
        params = list(critic.parameters())
        game.apply(optimiser, torch.autograd.grad(torch.stack(list(losses.values())).sum(), params))
        if step >= 0.9 * steps:
            gaps.append(-float((losses["real"] + losses["fake"]).detach()))
    gap = float(np.mean(gaps))
    x = torch.linspace(0, theta, 101)[:, None].requires_grad_()
    (slopes,) = torch.autograd.grad(critic(x, None, random)["score"].sum(), x)
    return gap, float(slopes.abs().mean())
