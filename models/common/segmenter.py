"""A small segmenter, for evaluation: the class of each pixel of a photograph. Ours; the shape is U-Net's (Ronneberger,
Fischer & Brox, MICCAI 2015): down by halves, up again beside what was there at that size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.common.blocks import EqualisedConv

WIDTHS = (16, 32, 64, 64)
"""Channels at full size, half, a quarter, ..."""


class Convolutions(nn.Module):
    """3 x 3 convolutions, each with batch normalisation and a ReLU."""

    def __init__(self, channels: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        pairs = list(pairwise(channels))
        self.convs = nn.ModuleList(EqualisedConv(a, b, 3, generator, slope=0.0) for a, b in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b in pairs)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return x


class Segmenter(nn.Module):
    """Pictures in [-1, 1] -> scores of `classes` classes at each pixel; any size from 8 pixels on."""

    def __init__(self, classes: int, generator: torch.Generator, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        before = [3, *widths]
        self.down = nn.ModuleList(Convolutions((a, b, b), generator) for a, b in zip(before, widths, strict=False))
        finer = list(zip(widths[-2::-1], widths[:0:-1], strict=True))  # (width there, width of the coarser level)
        self.up = nn.ModuleList(Convolutions((coarse + fine, fine), generator) for fine, coarse in finer)
        self.scores = EqualisedConv(widths[0], classes, 1, generator, slope=1.0)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        levels: list[Tensor] = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if levels else x)
            levels.append(x)
        for block, beside in zip(self.up, levels[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, beside.shape[2:], mode="nearest"), beside], 1))
        scores: Tensor = self.scores(x)
        return scores
