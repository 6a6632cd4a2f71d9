"""GAN objectives against exact answers: what each game must come to where it can be computed.

- f-GAN: a Gaussian fitted to a mixture of two by each divergence, beside the best mean, deviation and divergence by
  quadrature (Nowozin et al. 2016, table 3; the mixture is not printed there, this one reproduces its numbers).
- WGAN-GP: two point masses at distance theta: slope 1 + theta / (2 lambda), gap theta + theta^2 / (2 lambda).
- infoGAN: with ten codes and ten places to go, the bound reaches log 10.
- Parallel lines at distance theta: W_1 = theta, Jensen-Shannon log 2, total variation 1, KL infinite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.study.games.lines import bounds
from jobs.study.games.mixture import DEVIATIONS, MEANS, PUBLISHED, SHARES, optimum
from jobs.study.games.players import Affine, adam_game, perceptron
from models.common.seeds import seeded
from models.gans.game import Game, Latent, alternating, simultaneous
from models.gans.networks.critic import Headed
from models.gans.networks.layers import lecun, linear
from models.gans.networks.perceptron import Maker, Trunk
from models.gans.objectives.codes import Information
from models.gans.objectives.divergences import DIVERGENCES
from models.gans.objectives.penalties import GradientPenalty, interpolate
from models.gans.objectives.scores import Adversarial, nonsaturating, wasserstein
from models.gans.terms import Random, Side
from models.group import Group

GATED = (*PUBLISHED, "neyman", "squared-hellinger", "weighted-jensen-shannon")
RATE = 4e-3
"""Of both players; it falls evenly to a tenth over the run."""
LATE = 0.25
"""Share of the steps, at the end, over which what was fitted is averaged."""


@dataclass(frozen=True)
class Config:
    """How long each is trained."""

    divergences: tuple[str, ...] = (*GATED, "total-variation")
    """Of f-GAN's table; total variation's is reported, not counted in fgan_max_error."""
    steps: int = 5000
    """Of each divergence."""
    batch: int = 1024
    penalty_settings: tuple[tuple[float, float], ...] = ((1.0, 10.0), (1.0, 1.0), (3.0, 10.0), (1.0, 0.1))
    """theta and lambda of WGAN-GP's point masses."""
    penalty_steps: int = 2500
    information_steps: int = 1500
    lines: tuple[float, ...] = (0.0, 0.5, 1.0)
    """theta of the parallel lines."""
    lines_steps: int = 1500
    seed: int = field(default=0)


def run(config: Config) -> dict[str, Any]:
    """The figures; the last line that the command prints."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        figures = {
            **_fgan(config),
            **_wgan_gp(config),
            **_information(config),
            **bounds(config.lines, config.lines_steps, config.seed),
        }
    finally:
        torch.set_num_threads(threads)
    return {k: round(v, 5) for k, v in figures.items()}


def fit(name: str, config: Config) -> tuple[float, float, float]:
    """(mean, deviation, bound) that the game comes to: single-step gradients (algorithm 1), Adam."""
    generator, drawn = Affine(), seeded(config.seed, name)
    critic = perceptron(1, (64, 64), "tanh", drawn)
    game = adam_game(
        generator,
        critic,
        Adversarial(DIVERGENCES[name].rule(), measure="bound"),
        Latent(1),
        (RATE, RATE),
    )

    def deal() -> tuple[Side, None]:
        which = torch.rand(config.batch, 1, generator=drawn) < SHARES[0]
        noise = torch.randn(config.batch, 1, generator=drawn)
        first, second = (m + s * noise for m, s in zip(MEANS, DEVIATIONS, strict=True))
        return Side(torch.where(which, first, second)), None

    random, late = Random(drawn, Group()), list[tuple[Tensor, Tensor, Tensor]]()
    for step in range(config.steps):
        for optimiser in (game.critic_optimiser, game.generator_optimiser):
            optimiser.param_groups[0]["lr"] = RATE * (1 - 0.9 * step / config.steps)
        found = simultaneous(game, deal, step, config.batch, random)
        if step >= (1 - LATE) * config.steps:
            late.append((generator.mean.detach().clone(), generator.deviation.detach().clone(), found["bound"]))
    mean, deviation, bound = (float(torch.stack(column).double().mean()) for column in zip(*late, strict=True))
    return mean, abs(deviation), bound


def _fgan(config: Config) -> dict[str, float]:
    figures: dict[str, float] = {}
    errors, bounds, published = [0.0], [0.0], [0.0]
    for name in config.divergences:
        best, found = optimum(name), fit(name, config)
        off = max(abs(found[0] - best[0]), abs(found[1] - best[1]))
        figures |= {f"fgan/{name}/mean": found[0], f"fgan/{name}/deviation": found[1], f"fgan/{name}/bound": found[2]}
        print(
            f"f-GAN {name}: mean {found[0]:.4f} (best {best[0]:.4f}), deviation {found[1]:.4f} ({best[1]:.4f}), "
            f"bound {found[2]:.4f} ({best[2]:.4f})",
            flush=True,
        )
        if name in PUBLISHED:
            published.append(max(abs(a - b) for a, b in zip(best, PUBLISHED[name], strict=True)))
        if name in GATED:
            errors.append(off)
            bounds.append(abs(found[2] - best[2]))
    return {
        **figures,
        "fgan_max_error": max(errors),
        "fgan_max_bound_error": max(bounds),
        "fgan_optimum_to_published": max(published),
    }


def _wgan_gp(config: Config) -> dict[str, float]:
    errors = [0.0]
    for theta, weight in config.penalty_settings:
        gap, slope = point_masses(theta, weight, config.penalty_steps, config.seed)
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


def _information(config: Config) -> dict[str, float]:
    """Points on a ring of ten places, ten codes: E log Q(c | x) + H(c), of its last tenth; without the term, of a head
    that is trained all the same on a generator that does not care."""
    drawn, batch = seeded(config.seed, "information"), 256
    latent = Latent(8, normal=False, classes=10)
    generator = Maker(latent.width, (64, 64), (2,), drawn, bounded=False)
    trunk = Trunk(2, (64, 64), drawn)
    critic = Headed(trunk, {"score": linear(64, 1, drawn, lecun), "q": linear(64, 10, drawn, lecun)})
    term = Information(10)
    game = adam_game(generator, critic, Adversarial(nonsaturating()), latent, (1e-3, 1e-3))
    game.terms = [*game.terms, term]

    def deal() -> tuple[Side, None]:
        angle = torch.randint(10, (batch, 1), generator=drawn) * (2 * math.pi / 10)
        noise = 0.05 * torch.randn(batch, 2, generator=drawn)
        return Side(torch.cat([angle.cos(), angle.sin()], 1) * 2 + noise), None

    late = []
    for step in range(config.information_steps):
        found = alternating(game, deal, step, batch, Random(drawn, Group()))
        if step >= 0.9 * config.information_steps:
            late.append(float(found["information/discrete"]))
    bound = float(np.mean(late))
    print(f"infoGAN: bound {bound:.4f} (log 10 = {math.log(10):.4f})")
    return {"information_bound": bound}
