"""catGAN on two circles, one within the other, without labels: does the border lie between them?"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from jobs.study.games.players import adam_game
from models.common.seeds import seeded
from models.gans import views
from models.gans.figures import majority_error
from models.gans.game import Latent, alternating
from models.gans.networks.critic import Headed
from models.gans.networks.layers import lecun, linear
from models.gans.networks.perceptron import Maker, Trunk
from models.gans.objectives.classes import Categories
from models.gans.terms import Random, Side
from models.group import Group
from pipeline.data.tensors import to_uint8

RADII = (1.0, 0.5)
NOISE = 0.05
BATCH = 200
SIDE = 256
"""Of the picture, pixels."""


def circles(rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`rows 2` around two circles in turn, and the circle's number."""
    y = torch.arange(rows) % 2
    angle = 2 * math.pi * torch.rand(rows, generator=generator)
    points = torch.stack([angle.cos(), angle.sin()], 1) * torch.tensor(RADII)[y][:, None]
    return points + NOISE * torch.randn(rows, 2, generator=generator), y


def catgan(steps: int, seed: int) -> tuple[float, np.ndarray]:
    """(error after each of the two outputs took the majority circle, uint8 picture: how sure the critic is of its
    first output, the data over it)."""
    drawn = seeded(seed, "circles")
    generator = Maker(8, (128, 128), (2,), drawn, bounded=False)
    critic = Headed(Trunk(2, (128, 128), drawn), {"logits": linear(128, 2, drawn, lecun)})
    game = adam_game(generator, critic, Categories(), Latent(8), (1e-3, 1e-3))
    random = Random(drawn, Group())
    for step in range(steps):
        alternating(game, lambda: (Side(circles(BATCH, drawn)[0]), None), step, BATCH, random)
    critic.eval()
    with torch.no_grad():
        (x, y), (other, classes) = (circles(2000, drawn) for _ in range(2))
        guesses = [critic(points, None, random)["logits"].argmax(1) for points in (x, other)]
        error = majority_error(guesses[0], y, guesses[1], classes)
        surface = views.surface(lambda p: critic(p, None, random)["logits"].softmax(1)[:, 0], SIDE, x)[0].clone()
    half = views.reach(x)
    for circle, colour in ((0, (0.9, -0.6, -0.6)), (1, (-0.6, -0.2, 0.9))):
        rows, columns = views.cells(x[y == circle][:300], half, SIDE)
        surface[:, rows, columns] = torch.tensor(colour)[:, None]
    return error, to_uint8(surface)
