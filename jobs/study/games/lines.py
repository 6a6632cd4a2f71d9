"""Parallel lines at distance theta (the WGAN paper's example): what trained critics say of it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from jobs.study.games.players import Line, perceptron
from models.common.seeds import seeded
from models.gans.game import Game, Latent
from models.gans.objectives.divergences import DIVERGENCES
from models.gans.objectives.penalties import GradientPenalty, interpolate
from models.gans.objectives.scores import Adversarial, wasserstein
from models.gans.terms import Random, Side
from models.group import Group

HIGHEST = 2.0
"""Of the picture."""


def closed_forms(theta: float) -> dict[str, float]:
    """W_1, Jensen-Shannon, total variation, KL of the two lines."""
    apart = theta != 0
    return {
        "wasserstein": abs(theta),
        "jensen-shannon": math.log(2) if apart else 0.0,
        "total-variation": float(apart),
        "kl": math.inf if apart else 0.0,
    }


def picture(figures: Mapping[str, float], thetas: Sequence[float]) -> Image.Image:
    """What `bounds` found, as dots, on the closed forms. KL's dots and its infinity lie at the upper edge."""
    figure = Figure(figsize=(6.5, 4.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    fine = np.sort(np.append(np.linspace(min(thetas), max(thetas), 401), 0.0))
    for number, name in enumerate(closed_forms(0.0)):
        colour = f"C{number}"
        axes.plot(fine, [min(closed_forms(x)[name], HIGHEST) for x in fine.tolist()], color=colour)
        dots = [min(figures[f"lines/{theta}/{name}"], HIGHEST) for theta in thetas]
        axes.plot(thetas, dots, "o", color=colour, label=name, clip_on=False)
    axes.set(ylim=(0, HIGHEST), xlabel=f"theta; what is above {HIGHEST:g} lies at the upper edge")
    axes.set_title("Two parallel lines: measured (dots), closed form (lines)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return Image.open(sink)


def bounds(thetas: Sequence[float], steps: int, seed: int) -> dict[str, float]:
    """Critics trained on (0, Z) and (theta, Z), Z ~ U(0, 1): bounds of Jensen-Shannon, total variation and KL (which
    grow as long as the critic is trained where the divergence is not reached); the penalised critic's gap, solved for
    theta."""
    figures: dict[str, float] = {}
    rules: dict[str, Callable[[float], float]] = {
        "jensen-shannon": lambda bound: bound / 2,  # its bound is twice the usual divergence
        "total-variation": lambda bound: bound,
        "kl": lambda bound: bound,
    }
    for theta in thetas:
        row = {}
        for name, meaning in rules.items():
            row[name] = meaning(_line_bound(theta, Adversarial(DIVERGENCES[name].rule()), (), steps, seed))
        weight = 10.0
        gap = _line_bound(theta, Adversarial(wasserstein()), [GradientPenalty(_paired, weight)], steps, seed)
        row["wasserstein"] = weight * (math.sqrt(max(1 + 2 * gap / weight, 0.0)) - 1)
        print(f"parallel lines theta {theta}: " + ", ".join(f"{k} {v:.4f}" for k, v in row.items()), flush=True)
        figures |= {f"lines/{theta}/{k}": v for k, v in row.items()}
    return figures


def _paired(round: Any) -> Tensor:
    """Between each real point and the fake at the same height: the lines that the closed form is about."""
    real, fake = round.real.x, round.fake.x
    fake = torch.stack([fake[:, 0], real[:, 1]], 1)
    return interpolate(type(round)(round.real, Side(fake), round.random, round.group))


def _line_bound(theta: float, term: Adversarial, penalties: Any, steps: int, seed: int) -> float:
    drawn = seeded(seed, "lines", repr(theta))
    critic = perceptron(2, (64, 64), "leaky-relu", drawn)
    optimiser = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.5, 0.9))
    values = []
    game = Game(Line(theta), critic, Latent(1, normal=False), [term], optimiser, optimiser, Group(), penalties)
    for step in range(steps):
        z = torch.rand(256, generator=drawn)
        losses, _, _ = game.critic_losses(
            lambda z=z: (Side(torch.stack([torch.zeros_like(z), z], 1)), None),  # type: ignore[misc]
            Random(drawn, Group()),
        )
        params = list(critic.parameters())
        game.apply(optimiser, torch.autograd.grad(torch.stack(list(losses.values())).sum(), params))
        if step >= 0.9 * steps:
            values.append(-float((losses["real"] + losses["fake"]).detach()))
    return float(np.mean(values))
