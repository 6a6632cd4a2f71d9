"""pix2pixHD's generator (Wang et al., CVPR 2018, section 3.1): a global network, and local enhancers around it that
each double the resolution. (The global network and the encoder of instance features are `common.resnet`, the
discriminators `common.critics`.)
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.common.layers import Conv, Transposed
from models.common.norms import norm_layer
from models.common.pyramid import pyramid
from models.common.resnet import ResidualBlock, ResnetGenerator


class Enhancer(nn.Module):
    """Front: 7 x 7 and a 3 x 3 convolution of stride 2; the coarser network's features are added there. Back: residual
    blocks and a transposed convolution. `width` channels in and out, at twice the coarser network's size."""

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.first = Conv(channels, width, 7, padding=3, padding_mode="reflect")
        self.down = Conv(width, 2 * width, 3, 2, 1)
        self.blocks = nn.ModuleList(ResidualBlock(2 * width) for _ in range(blocks))
        self.up = Transposed(2 * width, width, 3, 2, 1, 1)
        self.norm = norm_layer("instance", width)

    def forward(self, x: Float[Tensor, "b c h w"], coarser: Float[Tensor, "b k h2 w2"]) -> Float[Tensor, "b n h w"]:
        x = F.relu(self.norm(self.first(x)), inplace=True)
        x = F.relu(self.norm(self.down(x)), inplace=True) + coarser
        for block in self.blocks:
            x = block(x)
        return F.relu(self.norm(self.up(x)), inplace=True)


class Generator(nn.Module):
    """Layout (labels, edges, features) -> picture. With n enhancers the global network works at 1 / 2^n of the size, on
    the layout's average pyramid (so with soft labels), and has `width` << n channels; its own last convolution serves
    the stage in which it is trained alone."""

    def __init__(
        self,
        channels: int,
        width: int = 64,
        downs: int = 4,
        blocks: int = 9,
        enhancers: int = 0,
        enhancer_blocks: int = 3,
        outputs: int = 3,
    ) -> None:
        super().__init__()
        self.coarse = ResnetGenerator(channels, outputs, width << enhancers, downs, blocks, "instance")
        widths = [width << i for i in range(enhancers - 1, -1, -1)]
        self.enhancers = nn.ModuleList(Enhancer(channels, w, enhancer_blocks) for w in widths)
        self.heads = nn.ModuleList(Conv(w, outputs, 7, padding=3, padding_mode="reflect") for w in widths[-1:])

    @property
    def multiple(self) -> int:
        """Sides of the full picture must be multiples of this."""
        return self.coarse.multiple << len(self.enhancers)

    def forward(self, layout: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h w"]:
        """At full size, through all enhancers; `coarse` alone makes the global stage's picture."""
        height, width = layout.shape[2:]
        if height % self.multiple or width % self.multiple:
            raise ValueError(
                f"{height} x {width} pixels: with {len(self.enhancers)} enhancers the sides must be multiples of "
                f"{self.multiple}; pad the picture"
            )
        if not self.enhancers:
            picture: Tensor = self.coarse(layout)
            return picture
        levels = pyramid(layout, len(self.enhancers) + 1)
        x = self.coarse.features(levels[-1])
        for enhancer, level in zip(self.enhancers, levels[-2::-1], strict=True):
            x = enhancer(level, x)
        (head,) = self.heads
        return torch.tanh(head(x)).to(next(self.parameters()).dtype)  # losses in full precision under autocast
