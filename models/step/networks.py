"""StEP's four networks: style encoder E, generator G, mapper M (the discriminator is models.common.patchgan's).

Convolutions: equalised learning rate, zero padding as TensorFlow's 'SAME'. Pictures in [-1, 1].
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.common.blocks import Dense, EqualisedConv, InstanceNorm, constant_maps, pixel_norm

MOST_CHANNELS = 512
DOWNS = 3


class EncoderBlock(nn.Module):
    """LReLU, conv3, LReLU, conv3, mean 2x2; beside it mean 2x2, conv1; summed. No norm inside."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first = EqualisedConv(inputs, outputs, 3, generator, slope=1.0)
        self.second = EqualisedConv(outputs, outputs, 3, generator, slope=1.0)
        self.short = EqualisedConv(inputs, outputs, 1, generator, slope=1.0)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        y = self.first(F.leaky_relu(x, 0.2))
        y = self.second(F.leaky_relu(y, 0.2))
        # Both paths are halved before the sum, not after it: the 1x1 convolution then runs on a quarter of the pixels.
        out: Tensor = F.avg_pool2d(y, 2) + self.short(F.avg_pool2d(x, 2))
        return out


class StyleEncoder(nn.Module):
    """E: picture -> code. z = mean + exp(logvar / 2), without noise; so at the start z is about 1 in each entry.

    `vae`: z = mean; who trains it draws around it (`moments`).
    """

    def __init__(self, width: int, code: int, generator: torch.Generator, vae: bool = False) -> None:
        super().__init__()
        self.vae = vae
        self.first = EqualisedConv(3, width, 4, generator, stride=2)
        self.blocks = nn.ModuleList(EncoderBlock(i * width, (i + 1) * width, generator) for i in (1, 2, 3))
        self.mean = Dense(4 * width, code, 0.02, generator)
        self.logvar = Dense(4 * width, code, 0.02, generator)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        mean, logvar = self.moments(image)
        return mean if self.vae else mean + torch.exp(logvar / 2)

    def moments(self, image: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """(mean, logvar)."""
        x = self.first(image)
        for block in self.blocks:
            x = pixel_norm(block(x))
        x = F.leaky_relu(x, 0.2).mean((2, 3))
        kept = self.mean.weight.dtype  # codes in full precision under autocast
        return self.mean(x).to(kept), self.logvar(x).to(kept)


class ResidualBlock(nn.Module):
    """conv3, IN, ReLU, conv3, IN, + x; no ReLU after the sum."""

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first = EqualisedConv(channels, channels, 3, generator, slope=1.0)
        self.first_norm = InstanceNorm(channels)
        self.second = EqualisedConv(channels, channels, 3, generator, slope=1.0)
        self.second_norm = InstanceNorm(channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        y = F.relu(self.first_norm(self.first(x)))
        out: Tensor = x + self.second_norm(self.second(y))
        return out


class ContentEncoder(nn.Module):
    """Input -> [conv0, down1, down2, down3] (the skips, taken before the residual blocks) and the bottleneck."""

    def __init__(self, width: int, blocks: int, generator: torch.Generator) -> None:
        super().__init__()
        widths = content_widths(width)
        self.first = EqualisedConv(3, width, 7, generator)
        self.first_norm = InstanceNorm(width)
        self.downs = nn.ModuleList(EqualisedConv(a, b, 3, generator, stride=2) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(InstanceNorm(w) for w in widths[1:])
        self.blocks = nn.Sequential(*(ResidualBlock(widths[-1], generator) for _ in range(blocks)))

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        skips = [F.relu(self.first_norm(self.first(x)))]
        for conv, norm in zip(self.downs, self.norms, strict=True):
            skips.append(F.relu(norm(conv(skips[-1]))))
        return [*skips, self.blocks(skips[-1])]


class UpBlock(nn.Module):
    """concat [skip, x, z], nearest x2, then twice conv3, ReLU, PixelNorm."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first = EqualisedConv(inputs, outputs, 3, generator)
        self.second = EqualisedConv(outputs, outputs, 3, generator)

    def forward(self, skip: Tensor, x: Tensor, z: Float[Tensor, "b d"]) -> Tensor:
        x = F.interpolate(torch.cat([skip, x, constant_maps(z, x)], 1), scale_factor=2, mode="nearest")
        x = pixel_norm(F.relu(self.first(x)))
        return pixel_norm(F.relu(self.second(x)))


class Decoder(nn.Module):
    """Features and code -> picture. The code enters at five places: bottleneck, each up block, the RGB convolution."""

    def __init__(self, width: int, blocks: int, code: int, generator: torch.Generator) -> None:
        super().__init__()
        skips = content_widths(width)[:0:-1]  # of down3, down2, down1
        inner = skips[0] + code
        self.blocks = nn.Sequential(*(ResidualBlock(inner, generator) for _ in range(blocks)))
        outputs = [width << i for i in range(DOWNS - 1, -1, -1)]
        inputs = [inner, *outputs[:-1]]
        self.ups = nn.ModuleList(
            UpBlock(skip + x + code, out, generator) for skip, x, out in zip(skips, inputs, outputs, strict=True)
        )
        self.rgb = EqualisedConv(2 * width + code, 3, 1, generator)

    def forward(self, features: list[Tensor], z: Float[Tensor, "b d"]) -> Float[Tensor, "b 3 h w"]:
        *skips, x = features
        x = self.blocks(torch.cat([x, constant_maps(z, x)], 1))
        for up, skip in zip(self.ups, skips[:0:-1], strict=True):
            x = up(skip, x, z)
        return torch.tanh(self.rgb(torch.cat([skips[0], x, constant_maps(z, x)], 1)).to(self.rgb.weight.dtype))


class Generator(nn.Module):
    """G(input, z): an encoder-decoder with skips, after pix2pixHD's."""

    def __init__(self, width: int, blocks: int, code: int, generator: torch.Generator) -> None:
        super().__init__()
        self.content = ContentEncoder(width, blocks, generator)
        self.decoder = Decoder(width, blocks, code, generator)

    def forward(self, x: Float[Tensor, "b 3 h w"], z: Float[Tensor, "b d"]) -> Float[Tensor, "b 3 h w"]:
        out: Tensor = self.decoder(self.content(x), z)
        return out


class Mapper(nn.Module):
    """M: e ~ N(0, I) -> code; three tanh layers and a linear one. Glorot's uniform start (the paper's is not known)."""

    def __init__(self, code: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        widths = [code, width, width, width, code]
        self.layers = nn.ModuleList()
        for a, b in pairwise(widths):
            layer = Dense(a, b, 0.0, generator)
            nn.init.uniform_(layer.weight, -math.sqrt(6 / (a + b)), math.sqrt(6 / (a + b)), generator=generator)
            self.layers.append(layer)

    def forward(self, e: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        for layer in self.layers[:-1]:
            e = torch.tanh(layer(e))
        return self.layers[-1](e)  # type: ignore[no-any-return]


def content_widths(width: int) -> list[int]:
    """Channels of conv0, down1, down2, down3: doubled, at most 512."""
    return [min(width << i, MOST_CHANNELS) for i in range(DOWNS + 1)]
