"""BEGAN's networks (Berthelot et al. 2017, figure 1): a decoder, which is also the generator's form, and an encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.gans.networks.layers import Chain, conv, linear


def base(size: int) -> tuple[int, int]:
    """(the coarsest side, how often it is doubled): 32 = 8 x 4, 28 = 7 x 4, 64 = 8 x 8.

    Raises:
        ValueError: the size is not 5 to 8 times a power of two, at least 10.
    """
    side, doublings = size, 0
    while side > 8 and side % 2 == 0:
        side, doublings = side // 2, doublings + 1
    if not (5 <= side <= 8 and doublings):
        raise ValueError(f"--size {size}: give 5 to 8 times a power of two (28, 32, 64)")
    return side, doublings


class Decoder(nn.Module):
    """`B codes` -> `B C H W`, unbounded: linear to the coarsest maps, pairs of 3 x 3 convolutions with ELU, enlarged by
    nearest neighbours between; no normalisation."""

    def __init__(self, codes: int, size: int, channels: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.side, self.doublings = base(size)
        self.width = width
        self.dense = linear(codes, width * self.side**2, generator)
        self.convs = nn.ModuleList(conv(width, width, 3, generator) for _ in range(2 * (self.doublings + 1)))
        self.out = conv(width, channels, 3, generator)

    def forward(self, z: Tensor) -> Tensor:
        x = self.dense(z).view(-1, self.width, self.side, self.side)
        for i, layer in enumerate(self.convs):
            if i and i % 2 == 0:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = F.elu(layer(x))
        out: Tensor = self.out(x)
        return out


def encoder(codes: int, size: int, channels: int, width: int, generator: torch.Generator) -> Chain:
    """`B C H W` -> `B codes`: 3 x 3 convolutions with ELU, a pair at each side; at each but the last the second one is
    wider by `width` and halves the side."""
    side, doublings = base(size)
    found: list[nn.Module] = [conv(channels, width, 3, generator), nn.ELU()]
    for i in range(1, doublings + 1):
        found += [conv(i * width, i * width, 3, generator), nn.ELU()]
        found += [conv(i * width, (i + 1) * width, 3, generator, 2), nn.ELU()]
    last = (doublings + 1) * width
    for _ in range(2):
        found += [conv(last, last, 3, generator), nn.ELU()]
    return Chain([*found, nn.Flatten(), linear(last * side * side, codes, generator)])
