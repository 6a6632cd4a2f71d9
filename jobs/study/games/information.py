"""infoGAN on ten places with ten codes: its bound of the mutual information."""

from __future__ import annotations

import math

import numpy as np
import torch

from jobs.study.games.players import adam_game
from models.common.seeds import seeded
from models.gans.game import Latent, alternating
from models.gans.networks.critic import Headed
from models.gans.networks.layers import lecun, linear
from models.gans.networks.perceptron import Maker, Trunk
from models.gans.objectives.codes import Information
from models.gans.objectives.scores import Adversarial, nonsaturating
from models.gans.terms import Losses, Random, Round, Seen, Side
from models.group import Group


class Reading(Information):
    """Q is trained, the generator is not asked for anything: a plain GAN's information."""

    def generator(self, seen: Seen, round: Round) -> Losses:
        return {}


def information(steps: int, seed: int) -> dict[str, float]:
    """Points on a ring of ten places, ten codes: E log Q(c | x) + H(c), mean of the last tenth of the steps; and that
    of a plain GAN, whose generator has the same inputs."""
    figures = {}
    for name, term in (("information_bound", Information(10)), ("information_bound_plain_gan", Reading(10))):
        figures[name] = _bound(term, steps, seed)
        print(f"{name} {figures[name]:.4f} (log 10 = {math.log(10):.4f})", flush=True)
    return figures


def _bound(term: Information, steps: int, seed: int) -> float:
    drawn, batch = seeded(seed, "information"), 256
    latent = Latent(8, normal=False, classes=10)
    generator = Maker(latent.width, (64, 64), (2,), drawn, bounded=False)
    trunk = Trunk(2, (64, 64), drawn)
    critic = Headed(trunk, {"score": linear(64, 1, drawn, lecun), "q": linear(64, 10, drawn, lecun)})
    game = adam_game(generator, critic, Adversarial(nonsaturating()), latent, (1e-3, 1e-3))
    game.terms = [*game.terms, term]

    def deal() -> tuple[Side, None]:
        angle = torch.randint(10, (batch, 1), generator=drawn) * (2 * math.pi / 10)
        noise = 0.05 * torch.randn(batch, 2, generator=drawn)
        return Side(torch.cat([angle.cos(), angle.sin()], 1) * 2 + noise), None

    late = []
    for step in range(steps):
        found = alternating(game, deal, step, batch, Random(drawn, Group()))
        if step >= 0.9 * steps:
            late.append(float(found["information/discrete"]))
    return float(np.mean(late))
