"""Which random small architectures train with WGAN-GP, with the non-saturating GAN, with both, with neither?

On the ring of 8 Gaussians, as Gulrajani et al. 2017 (section 5.1) do on 32 x 32 pictures with 200 architectures: both
objectives get the same networks, and each its own setting of `jobs.study gans`. Depths, widths, activations and batch
norm are drawn by number. Counts at several bars: modes captured by PacGAN's rule, and the share of the 2,500 samples
that is of high quality.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
import torch

import models.gans
from jobs.study.gans import SAMPLES, recipe_of
from models.common.seeds import seeded
from models.family import Batch
from models.group import Group
from pipeline.data.sources.points import modes
from pipeline.evaluation.coverage import ModeFigures, mode_figures

OBJECTIVES = ("nonsaturating", "wgan-gp")


@dataclass(frozen=True)
class Config:
    """How many architectures, and how long each is trained."""

    architectures: int = 20
    layout: Literal["ring", "grid"] = "ring"
    steps: int = 3000
    """Generator steps of each run."""
    bars: tuple[int, ...] = (2, 4, 6, 8)
    """Modes."""
    qualities: tuple[float, ...] = (0.1, 0.25, 0.5)
    """Shares of high quality."""


def run(config: Config) -> dict[str, Any]:
    """For each bar and quality how many architectures reach both with the GAN alone, WGAN-GP alone, both, neither."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = [_both(number, config.layout, config.steps) for number in range(config.architectures)]
    finally:
        torch.set_num_threads(threads)
    figures: dict[str, Any] = {"architectures": config.architectures, "layout": config.layout, "steps": config.steps}
    for bar, good in product(config.bars, config.qualities):
        reached = [tuple(one.captured >= bar and one.high_quality >= good for one in pair) for pair in found]
        for name, pattern in (
            ("gan", (True, False)),
            ("wgan_gp", (False, True)),
            ("both", (True, True)),
            ("neither", (False, False)),
        ):
            figures[f"{bar}/{good:g}/{name}"] = reached.count(pattern)
    return figures


def architecture(number: int) -> dict[str, Any]:
    """Depths 1-4, widths 16-128, activations, batch norm in the generator."""
    random = np.random.default_rng([number, 17])

    def widths() -> tuple[int, ...]:
        return (int(random.choice([16, 32, 64, 128])),) * int(random.integers(1, 5))

    activations = ["relu", "leaky-relu", "tanh", "smooth-elu"]
    return {
        "generator_widths": widths(),
        "critic_widths": widths(),
        "generator_activation": str(random.choice(activations)),
        "critic_activation": str(random.choice(activations)),
        "generator_norm": str(random.choice(["batch", "none"])),
    }


def _both(number: int, layout: str, steps: int) -> tuple[ModeFigures, ModeFigures]:
    drawn = architecture(number)
    gan, penalised = (trained(objective, drawn, layout, number, steps) for objective in OBJECTIVES)
    print(f"{number}: {drawn}\n  GAN {gan}\n  WGAN-GP {penalised}", flush=True)
    return gan, penalised


def trained(objective: str, architecture: dict[str, Any], layout: str, seed: int, steps: int) -> ModeFigures:
    """What a run in memory comes to."""
    recipe = replace(recipe_of(layout, objective, steps, seed), **architecture)
    family = models.gans.build(recipe, Group())
    wanted = modes(layout, "pacgan")
    centres, data = torch.from_numpy(wanted.centres).float(), seeded(seed, layout)

    def draw(stream: str) -> Batch:
        which = torch.randint(len(centres), (recipe.batch,), generator=data)
        return {"points": centres[which] + wanted.deviation * torch.randn(recipe.batch, 2, generator=data)}

    family.enter("game")
    for step in range(steps):
        family.update(draw, step * recipe.batch)
    return mode_figures(family.draws(SAMPLES, seeded(seed, "modes")).double().numpy(), wanted.centres, wanted.deviation)
