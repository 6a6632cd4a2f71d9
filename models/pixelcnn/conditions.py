"""What an image may be conditioned on: a vector, a map of the image's size, or both."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.pixelcnn.convolutions import weights


class Condition(NamedTuple):
    """h of van den Oord et al., NeurIPS 2016, section 2.3: `vector` B D (a one-hot class, an embedding, a code) is the
    same at every location (eq. 4), `map` B S H W is not (eq. 5's s = m(h))."""

    vector: Tensor | None = None
    map: Tensor | None = None


NOTHING = Condition()
"""The condition of models that have none."""


class Shift(nn.Module):
    """V h, or V * s with an unmasked 1x1 convolution: what a condition adds to a layer before its gate. None without a
    condition."""

    def __init__(self, vector: int, maps: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.vector = weights(outputs, vector, generator=generator) if vector else None
        self.map = weights(outputs, maps, 1, 1, generator=generator) if maps else None

    def forward(self, condition: Condition) -> Float[Tensor, "b o h w"] | None:
        """`B o 1 1` for a vector alone."""
        y = None
        if self.vector is not None:
            assert condition.vector is not None
            y = F.linear(condition.vector, self.vector)[:, :, None, None]
        if self.map is not None:
            assert condition.map is not None
            at = F.conv2d(condition.map, self.map)
            y = at if y is None else y + at
        return y


class Upsampler(nn.Module):
    """m of eq. 5, a deconvolutional network: a vector -> a map of the image's size, through 4x4 transposed convolutions
    of stride 2 from a map of 1/4 of the sides. Without batch norm: the map belongs to the likelihood."""

    def __init__(
        self, vector: int, features: int, maps: int, size: tuple[int, int], generator: torch.Generator
    ) -> None:
        super().__init__()
        self.start = (-(-size[0] // 4), -(-size[1] // 4))
        self.size, self.features = size, features
        self.weight = weights(2 * features * self.start[0] * self.start[1], vector, generator=generator)
        self.bias = nn.Parameter(torch.zeros(len(self.weight)))
        # Transposed: an output is a sum over inputs and a quarter of the 16 taps.
        self.up = nn.ParameterList(
            nn.Parameter(torch.randn(a, b, 4, 4, generator=generator) * (2 / (4 * a)) ** 0.5)
            for a, b in ((2 * features, features), (features, maps))
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(n)) for n in (features, maps))

    def forward(self, vector: Float[Tensor, "b d"]) -> Float[Tensor, "b s h w"]:
        y = F.linear(vector, self.weight, self.bias).view(len(vector), -1, *self.start)
        for weight, bias in zip(self.up, self.biases, strict=True):
            y = F.conv_transpose2d(F.relu(y), weight, bias, stride=2, padding=1)
        return y[:, :, : self.size[0], : self.size[1]]
