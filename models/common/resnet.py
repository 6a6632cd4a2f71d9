"""The residual generator (Johnson, Alahi & Fei-Fei, ECCV 2016) as pix2pix's and pix2pixHD's code build it."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.common.layers import Conv, Dropout, Live, Transposed
from models.common.norms import Norm, norm_layer


class ResidualBlock(nn.Module):
    """conv3, norm, ReLU, (dropout,) conv3, norm, + x; reflection padding, no ReLU after the sum."""

    def __init__(self, channels: int, norm: Norm = "instance", dropout: float = 0.0) -> None:
        super().__init__()
        biased = norm != "batch"
        self.first = Conv(channels, channels, 3, padding=1, padding_mode="reflect", bias=biased)
        self.first_norm = norm_layer(norm, channels)
        self.dropout = Dropout(dropout)
        self.second = Conv(channels, channels, 3, padding=1, padding_mode="reflect", bias=biased)
        self.second_norm = norm_layer(norm, channels)

    def forward(self, x: Float[Tensor, "b c h w"], live: Live | None = None) -> Float[Tensor, "b c h w"]:
        y = self.dropout(F.relu(self.first_norm(self.first(x), live), inplace=True), live)
        out: Tensor = x + self.second_norm(self.second(y), live)
        return out


class ResnetGenerator(nn.Module):
    """7 x 7 convolution, `downs` 3 x 3 ones of stride 2 (each doubling the width), `blocks` residual blocks, as many
    transposed ones up, 7 x 7 to `outputs`, tanh. Reflection padding at the 7 x 7 ones and in the blocks, zeros else.
    With batch norm only the last convolution has a bias.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        width: int = 64,
        downs: int = 2,
        blocks: int = 9,
        norm: Norm = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        biased = norm != "batch"
        widths = [width << i for i in range(downs + 1)]
        self.multiple = 1 << downs
        self.first = Conv(channels, width, 7, padding=3, padding_mode="reflect", bias=biased)
        self.first_norm = norm_layer(norm, width)
        self.downs = nn.ModuleList(Conv(a, b, 3, 2, 1, bias=biased) for a, b in pairwise(widths))
        self.down_norms = nn.ModuleList(norm_layer(norm, w) for w in widths[1:])
        self.blocks = nn.ModuleList(ResidualBlock(widths[-1], norm, dropout) for _ in range(blocks))
        self.ups = nn.ModuleList(Transposed(a, b, 3, 2, 1, 1, bias=biased) for a, b in pairwise(widths[::-1]))
        self.up_norms = nn.ModuleList(norm_layer(norm, w) for w in widths[-2::-1])
        self.head = Conv(width, outputs, 7, padding=3, padding_mode="reflect")

    def features(self, x: Float[Tensor, "b c h w"], live: Live | None = None) -> Float[Tensor, "b n h w"]:
        """What the last convolution sees: `width` channels at full size."""
        height, width = x.shape[2:]
        if height % self.multiple or width % self.multiple:
            raise ValueError(
                f"{height} x {width} pixels: this generator halves {len(self.downs)} times and takes multiples of "
                f"{self.multiple}; pad the picture"
            )
        x = F.relu(self.first_norm(self.first(x), live), inplace=True)
        for conv, norm in zip(self.downs, self.down_norms, strict=True):
            x = F.relu(norm(conv(x), live), inplace=True)
        for block in self.blocks:
            x = block(x, live)
        for conv, norm in zip(self.ups, self.up_norms, strict=True):
            x = F.relu(norm(conv(x), live), inplace=True)
        return x

    def forward(self, x: Float[Tensor, "b c h w"], live: Live | None = None) -> Float[Tensor, "b o h w"]:
        out = torch.tanh(self.head(self.features(x, live)))
        return out.to(self.head.weight.dtype)  # losses in full precision under autocast
