"""WGAN-GP's residual networks for 32 x 32 pictures (Gulrajani et al. 2017, appendix; released code)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.gans.networks.layers import BatchNorm, conv, lecun, linear
from models.gans.terms import Random
from models.group import Group


class Block(nn.Module):
    """x resampled through 1 x 1 + norm, ReLU, 3 x 3, norm, ReLU, 3 x 3. Larger by nearest neighbours before the
    convolutions, smaller by 2 x 2 means after them."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        resample: int,
        generator: torch.Generator,
        group: Group | None,
        raw: bool = False,
    ) -> None:
        """
        Args:
            resample: 1: twice the side; -1: half; 0: as it is.
            group: of the batch norm; None: without.
            raw: the input is a picture: no norm and no ReLU before the first convolution.
        """
        super().__init__()
        self.resample, self.raw = resample, raw
        self.norms = nn.ModuleList(
            nn.Identity() if group is None else BatchNorm(count, group) for count in (inputs, outputs)
        )
        self.first = conv(inputs, outputs, 3, generator)
        self.second = conv(outputs, outputs, 3, generator)
        self.short = conv(inputs, outputs, 1, generator, init=lecun) if resample or inputs != outputs else None

    def _resampled(self, x: Tensor, up: bool) -> Tensor:
        if up:
            return F.interpolate(x, scale_factor=2, mode="nearest") if self.resample == 1 else x
        return F.avg_pool2d(x, 2) if self.resample == -1 else x

    def forward(self, x: Tensor) -> Tensor:
        short = self._resampled(self._resampled(x, True), False)
        if self.short is not None:
            short = self.short(short)
        if not self.raw:
            x = self.norms[0](x).relu()
        x = self.norms[1](self.first(self._resampled(x, True))).relu()
        return short + self._resampled(self.second(x), False)


class Maker(nn.Module):
    """`B latent` -> `B C 32 32` in [-1, 1]: linear to 4 x 4, three enlarging blocks, batch norm, ReLU, 3 x 3, tanh."""

    def __init__(self, latent: int, channels: int, width: int, generator: torch.Generator, group: Group) -> None:
        super().__init__()
        self.width = width
        self.dense = linear(latent, width * 16, generator, lecun)
        self.blocks = nn.Sequential(*(Block(width, width, 1, generator, group) for _ in range(3)))
        self.norm = BatchNorm(width, group)
        self.out = conv(width, channels, 3, generator, init=lecun)

    def forward(self, z: Tensor) -> Tensor:
        x = self.blocks(self.dense(z).view(-1, self.width, 4, 4))
        out: Tensor = self.out(self.norm(x).relu())
        return out.tanh()


class Trunk(nn.Module):
    """`B C H W` -> `B width`: two halving blocks, two that keep the side, ReLU, mean over the positions. No norm."""

    def __init__(self, channels: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.width = width
        self.blocks = nn.Sequential(
            Block(channels, width, -1, generator, None, raw=True),
            Block(width, width, -1, generator, None),
            Block(width, width, 0, generator, None),
            Block(width, width, 0, generator, None),
        )

    def forward(self, x: Tensor, y: Tensor | None, random: Random) -> Tensor:
        out: Tensor = self.blocks(x).relu().mean((2, 3))
        return out
