"""GAN objectives against exact answers: what each game must come to where it can be computed.

- f-GAN: a Gaussian fitted to a mixture of two by each divergence, beside the best mean, deviation and divergence by
  quadrature (Nowozin et al. 2016, table 3; the mixture is not printed there, this one reproduces its numbers).
- WGAN-GP: two point masses at distance theta: slope 1 + theta / (2 lambda), gap theta + theta^2 / (2 lambda).
- infoGAN: with ten codes and ten places to go, the bound reaches log 10.
- LSGAN, EBGAN and BEGAN: losses at the equilibria of whole games.
- catGAN: two circles told apart without labels.
- Parallel lines at distance theta: W_1 = |theta|, Jensen-Shannon log 2, total variation 1, KL infinite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from jobs.study.games.circles import SIDE, catgan
from jobs.study.games.equilibria import equilibria
from jobs.study.games.information import information
from jobs.study.games.lines import bounds, picture
from jobs.study.games.masses import penalised
from jobs.study.games.mixture import DEVIATIONS, MEANS, PUBLISHED, SHARES, optimum
from jobs.study.games.players import Affine, adam_game, perceptron
from models.common.seeds import seeded
from models.gans.game import Latent, simultaneous
from models.gans.objectives.divergences import DIVERGENCES
from models.gans.objectives.scores import Adversarial
from models.gans.terms import Random, Side
from models.group import Group
from pipeline.artifacts import storage
from pipeline.data import decode
from pipeline.tracking import sheets

GATED = (*PUBLISHED, "neyman", "squared-hellinger", "weighted-jensen-shannon")
RATE = 4e-3
"""Of both players; it falls evenly to a tenth over the run."""
RATES = {"total-variation": 1e-3}
"""Where it differs: at 4e-3 the critic's tanh saturates everywhere, and its gradient is gone."""
SOLVED = 0.01
"""An error below this: the border lies between the circles."""
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
    equilibrium_steps: int = 4000
    gammas: tuple[float, ...] = (0.3, 0.5, 0.7)
    """BEGAN's."""
    circles_inner: tuple[float, ...] = (0.3, 0.5)
    """Radii of the inner of catGAN's two circles, of the outer's; the second is known to be hard."""
    circles_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    circles_steps: int = 1000
    lines: tuple[float, ...] = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)
    """theta of the parallel lines."""
    lines_steps: int = 1500
    seed: int = 0
    folder: str = ""
    """Where lines.png and circles.png are kept; none: no pictures."""


def run(config: Config) -> dict[str, Any]:
    """The figures; the last line that the command prints."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        figures = {
            **_fgan(config),
            **penalised(config.penalty_settings, config.penalty_steps, config.seed),
            **information(config.information_steps, config.seed),
            **equilibria(config.equilibrium_steps, config.gammas, config.seed),
            **_circles(config),
            **bounds(config.lines, config.lines_steps, config.seed),
        }
    finally:
        torch.set_num_threads(threads)
    if config.folder:
        _keep(picture(figures, config.lines), config.folder, "lines.png")
    return {k: round(v, 5) for k, v in figures.items()}


def _circles(config: Config) -> dict[str, float]:
    """Each seed's error, and the share of seeds whose border lies between the circles."""
    figures, rows = dict[str, float](), list[list[np.ndarray]]()
    for inner in config.circles_inner:
        found = [catgan(inner, config.circles_steps, seed) for seed in config.circles_seeds]
        errors = [error for error, _ in found]
        rows.append([x for _, x in found])
        print(f"catGAN on circles 1 and {inner:g}: errors {', '.join(f'{e:.4f}' for e in errors)}", flush=True)
        figures |= {f"circles_error/{inner}/{s}": e for s, e in zip(config.circles_seeds, errors, strict=True)}
        figures[f"circles_solved/{inner}"] = sum(e < SOLVED for e in errors) / len(errors)
    if config.folder:
        names, columns = [f"{i:g}" for i in config.circles_inner], [f"seed {seed}" for seed in config.circles_seeds]
        _keep(sheets.sheet(rows, names, columns, "catGAN without labels", "", SIDE), config.folder, "circles.png")
    return figures


def _keep(made: Image.Image, folder: str, name: str) -> None:
    path = storage.join(storage.absolute(folder, "--folder"), name)
    storage.publish(path, decode.to_png(np.asarray(made)))
    print(path)


def fit(name: str, config: Config) -> tuple[float, float, float]:
    """(mean, deviation, bound) that the game comes to: single-step gradients (algorithm 1), Adam."""
    generator, drawn, rate = Affine(), seeded(config.seed, name), RATES.get(name, RATE)
    critic = perceptron(1, (64, 64), "tanh", drawn)
    game = adam_game(
        generator,
        critic,
        Adversarial(DIVERGENCES[name].rule(), measure="bound"),
        Latent(1),
        (rate, rate),
    )

    def deal() -> tuple[Side, None]:
        which = torch.rand(config.batch, 1, generator=drawn) < SHARES[0]
        noise = torch.randn(config.batch, 1, generator=drawn)
        first, second = (m + s * noise for m, s in zip(MEANS, DEVIATIONS, strict=True))
        return Side(torch.where(which, first, second)), None

    random, late = Random(drawn, Group()), list[tuple[Tensor, Tensor, Tensor]]()
    for step in range(config.steps):
        for optimiser in (game.critic_optimiser, game.generator_optimiser):
            optimiser.param_groups[0]["lr"] = rate * (1 - 0.9 * step / config.steps)
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
