"""A small classifier, for evaluation: its features and classes stand in for Inception's on small pictures. Ours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.common.blocks import EqualisedConv
from models.common.segmenter import Convolutions

WIDTHS = (16, 32, 64)
"""Channels at full size, half, a quarter."""


class Classifier(nn.Module):
    """Pictures in [-1, 1] -> scores of `classes` classes; any size from 4 pixels on."""

    def __init__(self, channels: int, classes: int, generator: torch.Generator, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.channels, self.classes, self.width = channels, classes, widths[-1]
        before = [channels, *widths]
        self.blocks = nn.ModuleList(Convolutions(pair, generator) for pair in zip(before, widths, strict=False))
        self.scores = EqualisedConv(widths[-1], classes, 1, generator, slope=1.0)

    def features(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f"]:
        """What the classes are read from: the mean over the positions of the deepest layer."""
        for i, block in enumerate(self.blocks):
            x = block(F.max_pool2d(x, 2) if i else x)
        return x.mean((2, 3))

    def classes_of(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b k"]:
        """Scores, before any softmax, from features."""
        scores: Tensor = self.scores(features[..., None, None])[..., 0, 0]
        return scores

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        return self.classes_of(self.features(x))
