"""MUNIT's networks (Huang et al., ECCV 2018, section 5.1 and appendix B.2): for each domain a content encoder, a style
encoder, and a decoder whose residual blocks are normalised by AdaIN with numbers that an MLP makes from the style.

Reflection padding everywhere, all convolutions with a bias. (The discriminators are `common.critics`.)
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.common.layers import Conv, Linear, initialise, kaiming
from models.common.norms import norm_layer
from models.common.resnet import ResidualBlock

EPS = 1e-5


def adain(
    x: Float[Tensor, "b c h w"], shift: Float[Tensor, "b c"], scale: Float[Tensor, "b c"]
) -> Float[Tensor, "b c h w"]:
    """scale * (x - mean) / sqrt(var + 1e-5) + shift, the statistics over each picture's channel (equation 5); the scale
    is used as it is, without adding 1."""
    return F.instance_norm(x) * scale[:, :, None, None] + shift[:, :, None, None]


class LayerNorm(nn.Module):
    """gamma * (x - mean) / (std + 1e-5) + beta over all of a picture's numbers; the deviation is the unbiased one,
    gamma and beta are per channel. (Instance norm would erase the style in the upsampling layers.)"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        mean, deviation = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)
        return (x - mean) / (deviation + EPS) * self.gamma[:, None, None] + self.beta[:, None, None]


class ContentEncoder(nn.Module):
    """7 x 7, `downs` 4 x 4 convolutions of stride 2, `blocks` residual blocks; instance norm and ReLU."""

    def __init__(self, channels: int, width: int, downs: int, blocks: int) -> None:
        super().__init__()
        widths = [width << i for i in range(downs + 1)]
        first = Conv(channels, width, 7, padding=3, padding_mode="reflect")
        self.convs = nn.ModuleList([first, *(half(a, b) for a, b in pairwise(widths))])
        self.norms = nn.ModuleList(norm_layer("instance", w) for w in widths)
        self.blocks = nn.ModuleList(ResidualBlock(widths[-1]) for _ in range(blocks))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h2 w2"]:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)), inplace=True)
        for block in self.blocks:
            x = block(x)
        return x.to(next(self.parameters()).dtype)  # contents are compared in full precision under autocast


class StyleEncoder(nn.Module):
    """7 x 7, `downs` 4 x 4 convolutions of stride 2 (the width doubles in the first two), ReLU, no norm, which would
    erase the style; mean over all positions; 1 x 1 to the code."""

    def __init__(self, channels: int, code: int, width: int, downs: int) -> None:
        super().__init__()
        widths = [width * min(1 << i, 4) for i in range(downs + 1)]
        first = Conv(channels, width, 7, padding=3, padding_mode="reflect")
        self.convs = nn.ModuleList([first, *(half(a, b) for a, b in pairwise(widths))])
        self.code = Conv(widths[-1], code, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        for conv in self.convs:
            x = F.relu(conv(x), inplace=True)
        code: Tensor = self.code(x.mean((2, 3), keepdim=True))[:, :, 0, 0]
        return code.to(self.code.weight.dtype)  # codes in full precision under autocast


class StyledBlock(nn.Module):
    """A residual block with AdaIN after each convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Conv(channels, channels, 3, padding=1, padding_mode="reflect")
        self.second = Conv(channels, channels, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Float[Tensor, "b c h w"], numbers: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        """`numbers`: shift and scale of the first convolution's channels, then of the second's."""
        shift, scale, shift2, scale2 = numbers.chunk(4, 1)
        y = F.relu(adain(self.first(x), shift, scale), inplace=True)
        out: Tensor = x + adain(self.second(y), shift2, scale2)
        return out


class Decoder(nn.Module):
    """Residual blocks with AdaIN, then `ups` times nearest x2, 5 x 5 convolution to half the width, layer norm, ReLU;
    7 x 7 to the picture, tanh."""

    def __init__(self, channels: int, code: int, width: int, ups: int, blocks: int, hidden: int) -> None:
        super().__init__()
        widths = [width << i for i in range(ups, -1, -1)]
        self.blocks = nn.ModuleList(StyledBlock(widths[0]) for _ in range(blocks))
        sides = [code, hidden, hidden, 4 * widths[0] * blocks]
        self.mlp = nn.ModuleList(Linear(a, b) for a, b in pairwise(sides))
        self.ups = nn.ModuleList(Conv(a, b, 5, padding=2, padding_mode="reflect") for a, b in pairwise(widths))
        self.norms = nn.ModuleList(LayerNorm(w) for w in widths[1:])
        self.head = Conv(width, channels, 7, padding=3, padding_mode="reflect")

    def forward(self, content: Float[Tensor, "b k h2 w2"], style: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        first, second, last = self.mlp
        numbers = last(F.relu(second(F.relu(first(style)))))
        x = content
        for block, part in zip(self.blocks, numbers.chunk(len(self.blocks), 1), strict=True):
            x = block(x, part)
        for conv, norm in zip(self.ups, self.norms, strict=True):
            x = F.relu(norm(conv(F.interpolate(x, scale_factor=2, mode="nearest"))), inplace=True)
        return torch.tanh(self.head(x)).to(self.head.weight.dtype)  # losses in full precision under autocast


class Generator(nn.Module):
    """One domain's auto-encoder: `content`, `style`, and `decoder(content, style)`."""

    def __init__(
        self,
        channels: int = 3,
        code: int = 8,
        width: int = 64,
        downs: int = 2,
        blocks: int = 4,
        style_downs: int = 4,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        self.style = StyleEncoder(channels, code, width, style_downs)
        self.content = ContentEncoder(channels, width, downs, blocks)
        self.decoder = Decoder(channels, code, width, downs, blocks, hidden)

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """First weights: He's normal, biases 0, gamma of the layer norms from U(0, 1) (the released code)."""
        initialise(self, generator, kaiming())
        for layer in self.modules():
            if isinstance(layer, LayerNorm):
                nn.init.uniform_(layer.gamma, 0, 1, generator=generator)


def half(inputs: int, outputs: int) -> Conv:
    """4 x 4 of stride 2: half the side."""
    return Conv(inputs, outputs, 4, 2, 1, padding_mode="reflect")
