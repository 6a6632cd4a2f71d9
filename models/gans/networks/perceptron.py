"""Fully connected networks, for points and for small pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.gans.networks.layers import ACTIVATIONS, BatchNorm, Chain, Init, Maxout, Noise, he, linear
from models.gans.terms import Random
from models.group import Group


def layers(
    inputs: int,
    widths: Sequence[int],
    activation: str,
    generator: torch.Generator,
    group: Group | None = None,
    init: Init = he,
    noise: tuple[float, float] = (0.0, 0.0),
) -> list[nn.Module]:
    """Hidden layers: noise, linear, batch norm, activation, each.

    Args:
        group: with batch norm over its workers; None: without.
        noise: deviation of the noise added to the input, and before each later layer.
    """
    found: list[nn.Module] = []
    for i, width in enumerate(widths):
        if noise[i > 0]:
            found.append(Noise(noise[i > 0]))
        act = ACTIVATIONS[activation]()
        found.append(linear(inputs, width * (act.pieces if isinstance(act, Maxout) else 1), generator, init))
        if group is not None:
            found.append(BatchNorm(width, group))
        found.append(act)
        inputs = width
    return found


class Maker(nn.Module):
    """`B latent` -> `B *shape`: hidden layers, a linear one, and tanh where `bounded`."""

    def __init__(
        self,
        latent: int,
        widths: Sequence[int],
        shape: Sequence[int],
        generator: torch.Generator,
        activation: str = "relu",
        group: Group | None = None,
        bounded: bool = True,
        init: Init = he,
    ) -> None:
        super().__init__()
        self.shape, self.bounded = tuple(shape), bounded
        self.hidden = Chain(layers(latent, widths, activation, generator, group, init))
        self.out = linear(widths[-1], torch.Size(shape).numel(), generator, init)

    def forward(self, z: Tensor) -> Tensor:
        x: Tensor = self.out(self.hidden(z))
        return (x.tanh() if self.bounded else x).view(-1, *self.shape)


class Trunk(nn.Module):
    """`B *shape` -> `B widths[-1]`. With classes, their one-hot goes through a linear layer and is joined to each
    layer's input, as in Mao et al. 2017 (section 4.2)."""

    def __init__(
        self,
        inputs: int,
        widths: Sequence[int],
        generator: torch.Generator,
        activation: str = "leaky-relu",
        init: Init = he,
        noise: tuple[float, float] = (0.0, 0.0),
        classes: int = 0,
        embedding: int = 64,
    ) -> None:
        super().__init__()
        self.classes = classes
        extra = embedding if classes else 0
        self.embed = linear(classes, embedding, generator) if classes else None
        self.steps = nn.ModuleList()
        for i, width in enumerate(widths):
            self.steps.append(
                Chain(layers(inputs + extra, [width], activation, generator, None, init, (noise[i > 0],) * 2))
            )
            inputs = width

    def forward(self, x: Tensor, y: Tensor | None, random: Random) -> Tensor:
        x = x.flatten(1)
        if self.embed is not None:
            assert y is not None
            label = self.embed(F.one_hot(y, self.classes).to(x))
        for step in self.steps:
            x = step(torch.cat([x, label], 1) if self.embed is not None else x, random)
        return x
