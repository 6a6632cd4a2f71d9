"""DCGAN's networks (Radford et al. 2016) for pictures of 28, 32 or 64 pixels, with 4 x 4 convolutions."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.common.blocks import constant_maps
from models.gans.networks.layers import SLOPE, BatchNorm, Chain, Dropout, conv, enlarging, linear, normal
from models.gans.terms import Random
from models.group import Group

INIT = normal(0.02)


def base(size: int) -> tuple[int, int]:
    """(the coarsest side, how often it is doubled): 28 = 7 x 4, 32 = 4 x 8, 64 = 4 x 16.

    Raises:
        ValueError: the size is not 4 to 7 times a power of two, at least 8.
    """
    side, doublings = size, 0
    while side > 7 and side % 2 == 0:
        side, doublings = side // 2, doublings + 1
    if not (4 <= side <= 7 and doublings):
        raise ValueError(f"--size {size}: give 4 to 7 times a power of two (28, 32, 64)")
    return side, doublings


class Maker(nn.Module):
    """`B latent` -> `B C H W` in [-1, 1]: linear to the coarsest side, transposed convolutions to half the channels
    each, the last to `width / 2^0`; batch norm and ReLU between, tanh at the end."""

    def __init__(
        self,
        latent: int,
        size: int,
        channels: int,
        width: int,
        generator: torch.Generator,
        group: Group | None,
        hidden: int = 0,
    ) -> None:
        """
        Args:
            width: channels at half the full side.
            group: of the batch norm; None: without.
            hidden: width of a fully connected layer before the coarsest maps (infoGAN: 1024); 0: none.
        """
        super().__init__()
        self.side, doublings = base(size)
        widths = [width << i for i in reversed(range(doublings))]
        self.first = widths[0]

        def norm(count: int) -> list[nn.Module]:
            return [nn.ReLU()] if group is None else [BatchNorm(count, group), nn.ReLU()]

        dense: list[nn.Module] = [linear(latent, hidden, generator, INIT), *norm(hidden)] if hidden else []
        self.dense = nn.Sequential(*dense, linear(hidden or latent, widths[0] * self.side**2, generator, INIT))
        maps: list[nn.Module] = norm(widths[0])
        for before, after in pairwise(widths):
            maps += [enlarging(before, after, generator, INIT), *norm(after)]
        self.maps = nn.Sequential(*maps, enlarging(widths[-1], channels, generator, INIT))

    def forward(self, z: Tensor) -> Tensor:
        x: Tensor = self.maps(self.dense(z).view(-1, self.first, self.side, self.side))
        return x.tanh()


class Trunk(nn.Module):
    """`B C H W` -> `B features`: convolutions of stride 2 to twice the channels each, leaky ReLU 0.2, down to the
    coarsest side. With classes, their one-hot goes through a linear layer and is joined to each layer's input as
    constant maps (Mao et al. 2017, section 4.2)."""

    def __init__(
        self,
        size: int,
        channels: int,
        width: int,
        generator: torch.Generator,
        norm: str = "batch",
        group: Group | None = None,
        hidden: int = 0,
        dropout: float = 0.0,
        classes: int = 0,
        embedding: int = 64,
    ) -> None:
        """
        Args:
            norm: of all layers but the first: `batch` (over `group`), `layer` or `none`.
            hidden: width of a fully connected layer at the end (infoGAN: 1024); 0: none.
            dropout: share of zeroed elements after each layer (ACGAN: 0.5).
        """
        super().__init__()
        self.classes = classes
        self.embed = linear(classes, embedding, generator, INIT) if classes else None
        extra = embedding if classes else 0
        side, doublings = base(size)
        self.steps = nn.ModuleList()
        before = channels
        for i in range(doublings):
            after = width << i
            step: list[nn.Module] = [conv(before + extra, after, 4, generator, 2, INIT)]
            if i and norm != "none":
                assert group is not None or norm == "layer"
                step.append(nn.GroupNorm(1, after) if norm == "layer" else BatchNorm(after, group))  # type: ignore[arg-type]
            step.append(nn.LeakyReLU(SLOPE))
            self.steps.append(Chain([*step, Dropout(dropout)] if dropout else step))
            before = after
        self.width = before * side * side
        self.dense: Chain | None = None
        if hidden:
            normed: list[nn.Module] = [BatchNorm(hidden, group)] if norm == "batch" and group is not None else []
            self.dense = Chain([linear(self.width, hidden, generator, INIT), *normed, nn.LeakyReLU(SLOPE)])
            self.width = hidden

    def forward(self, x: Tensor, y: Tensor | None, random: Random) -> Tensor:
        label = None
        if self.embed is not None:
            assert y is not None
            label = self.embed(F.one_hot(y, self.classes).to(x))
        for step in self.steps:
            x = step(x if label is None else torch.cat([x, constant_maps(label, x)], 1), random)
        x = x.flatten(1)
        return x if self.dense is None else self.dense(x, random)
