"""catGAN on two circles, one within the other, without labels: does the border lie between them?

What decides is how the game begins. While logits are small, the critic's objective is Var f(x) - E f(G)^2, f half the
difference of its two logits, and what grows fastest is the leading eigenfunction of its kernel so weighted. For many
kernels that is a cut through both circles, and once sharp it gives way slowly or not at all. Inner against outer leads
for a kernel about as wide as the gap, fakes all over the disc, and an inner circle that is small (0.3 of the outer one;
0.5 is not). Hence a critic of random Fourier features. With two leaky-ReLU layers, and a generator as fast as they
were, fakes ran away to where the critic was sure already: there the entropy of a saturated softmax has no gradient.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from jobs.study.games.players import adam_game
from models.common.seeds import seeded
from models.gans import views
from models.gans.figures import majority_error
from models.gans.game import Latent, alternating
from models.gans.networks.critic import Headed
from models.gans.networks.layers import linear, normal
from models.gans.networks.perceptron import Maker
from models.gans.objectives.classes import Categories
from models.gans.terms import Random, Side
from models.group import Group
from pipeline.data.tensors import to_uint8

NOISE = 0.05
BATCH = 200
REACH = 0.4
"""Width of the critic's first kernel."""
FEATURES = 256
RATES = (1e-3, 1e-4)
"""The critic's, the generator's."""
SIDE = 256
"""Of the picture, pixels."""


class Waves(nn.Module):
    """`B 2` -> `B FEATURES`: cos(w x + b), all learned. At first w ~ N(0, 1 / REACH^2) and b ~ U[0, 2 pi): random
    features of a Gaussian kernel of width `REACH` (Rahimi & Recht 2007)."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.phase = linear(2, FEATURES, generator, normal(1 / REACH))
        with torch.no_grad():
            self.phase.bias.uniform_(0, 2 * math.pi, generator=generator)

    def forward(self, x: Tensor, y: Tensor | None, random: Random) -> Tensor:
        out: Tensor = self.phase(x).cos()
        return out


def circles(rows: int, inner: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`rows 2` around circles of radius 1 and `inner` in turn, and the circle's number."""
    y = torch.arange(rows) % 2
    angle = 2 * math.pi * torch.rand(rows, generator=generator)
    points = torch.stack([angle.cos(), angle.sin()], 1) * torch.tensor([1.0, inner])[y][:, None]
    return points + NOISE * torch.randn(rows, 2, generator=generator), y


def catgan(inner: float, steps: int, seed: int) -> tuple[float, np.ndarray]:
    """(error after each of the two outputs took the majority circle, uint8 picture: how sure the critic is of its
    first output, the data over it)."""
    drawn = seeded(seed, "circles")
    generator = Maker(8, (128, 128), (2,), drawn, bounded=False)
    critic = Headed(Waves(drawn), {"logits": linear(FEATURES, 2, drawn, normal(0.1 / math.sqrt(FEATURES)))})
    game = adam_game(generator, critic, Categories(), Latent(8), RATES)
    random = Random(drawn, Group())
    for step in range(steps):
        alternating(game, lambda: (Side(circles(BATCH, inner, drawn)[0]), None), step, BATCH, random)
    critic.eval()
    with torch.no_grad():
        (x, y), (other, classes) = (circles(2000, inner, drawn) for _ in range(2))
        guesses = [critic(points, None, random)["logits"].argmax(1) for points in (x, other)]
        error = majority_error(guesses[0], y, guesses[1], classes)
        surface = views.surface(lambda p: critic(p, None, random)["logits"].softmax(1)[:, 0], SIDE, x)[0].clone()
    half = views.reach(x)
    for circle, colour in ((0, (0.9, -0.6, -0.6)), (1, (-0.6, -0.2, 0.9))):
        rows, columns = views.cells(x[y == circle][:300], half, SIDE)
        surface[:, rows, columns] = torch.tensor(colour)[:, None]
    return error, to_uint8(surface)
