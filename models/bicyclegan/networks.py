"""BicycleGAN's encoders: picture -> mean and log variance of its code. (Its generator is `common.unet`, its
discriminators are `common.critics`.)"""

from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.common.layers import Conv, Linear
from models.common.norms import norm_layer

SLOPE = 0.2
Code = tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]
"""Mean and log variance."""


class EncoderBlock(nn.Module):
    """norm, leaky ReLU, conv3, norm, leaky ReLU, conv3, mean 2 x 2; beside it mean 2 x 2, conv1; summed."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norm_layer("instance", inputs) for _ in range(2))
        self.first = Conv(inputs, inputs, 3, padding=1)
        self.second = Conv(inputs, outputs, 3, padding=1)
        self.short = Conv(inputs, outputs, 1)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        y = self.first(F.leaky_relu(self.norms[0](x), SLOPE, inplace=True))
        y = self.second(F.leaky_relu(self.norms[1](y), SLOPE, inplace=True))
        out: Tensor = F.avg_pool2d(y, 2) + self.short(F.avg_pool2d(x, 2))
        return out


class Heads(nn.Module):
    """Mean over all positions, then one linear map to the mean and one to the log variance. (The released code pools
    8 x 8, which is the same at its one size, 256 pixels.)"""

    def __init__(self, channels: int, code: int) -> None:
        super().__init__()
        self.mean = Linear(channels, code)
        self.logvar = Linear(channels, code)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Code:
        x = x.mean((2, 3))
        kept = self.mean.weight.dtype  # codes in full precision under autocast
        return self.mean(x).to(kept), self.logvar(x).to(kept)


class ResnetEncoder(nn.Module):
    """4 x 4 convolution of stride 2 without norm, then `blocks` residual blocks of 2, 3, 4, 4, ... times the width;
    each halves the side. 4 blocks for 256 pixels, 3 for 128."""

    def __init__(self, channels: int, code: int, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        widths = [width * min(i + 1, 4) for i in range(blocks + 1)]
        self.first = Conv(channels, width, 4, 2, 1)
        self.blocks = nn.ModuleList(EncoderBlock(a, b) for a, b in pairwise(widths))
        self.heads = Heads(widths[-1], code)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Code:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        found: Code = self.heads(F.leaky_relu(x, SLOPE))
        return found


class ConvEncoder(nn.Module):
    """4 x 4 convolutions of stride 2 and widths 1, 2, 4, 4, ...; instance norm after each but the first, leaky ReLU. 5
    layers for 256 pixels, 4 for 128."""

    def __init__(self, channels: int, code: int, width: int = 64, layers: int = 5) -> None:
        super().__init__()
        widths = [width * min(1 << i, 4) for i in range(layers)]
        self.convs = nn.ModuleList(Conv(a, b, 4, 2, 1) for a, b in pairwise([channels, *widths]))
        self.norms = nn.ModuleList(norm_layer("instance" if i else "none", w) for i, w in enumerate(widths))
        self.heads = Heads(widths[-1], code)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Code:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), SLOPE, inplace=True)
        found: Code = self.heads(x)
        return found
