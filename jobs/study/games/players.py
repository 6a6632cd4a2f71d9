"""Generators of one or two numbers, perceptron critics, and games of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.gans.game import Game, Latent, every
from models.gans.networks.critic import Headed
from models.gans.networks.layers import lecun, linear
from models.gans.networks.perceptron import Trunk
from models.gans.terms import Term
from models.group import Group


class Affine(nn.Module):
    """mean + deviation z."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(()))
        self.deviation = nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor) -> Tensor:
        return self.mean + self.deviation * z


class Line(nn.Module):
    """(theta, (z + 1) / 2)."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta), requires_grad=False)

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([self.theta.expand(len(z), 1), (z + 1) / 2], 1)


def perceptron(inputs: int, widths: tuple[int, ...], activation: str, drawn: torch.Generator) -> Headed:
    """A critic with one score."""
    trunk = Trunk(inputs, widths, drawn, activation, lecun)
    return Headed(trunk, {"score": linear(widths[-1], 1, drawn, lecun)})


def adam_game(generator: nn.Module, critic: nn.Module, term: Term, latent: Latent, rates: tuple[float, float]) -> Game:
    """Rates: the critic's, the generator's."""
    d, g = (
        torch.optim.Adam(net.parameters(), lr=rate, betas=(0.5, 0.999))
        for net, rate in zip((critic, generator), rates, strict=True)
    )
    return Game(generator, critic, latent, [term], g, d, Group(), schedule=every(1))
