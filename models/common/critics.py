"""Patch discriminators of any depth: pix2pix's (Isola et al., CVPR 2017, section 3.2.2 and appendix 6.1), and several
of them on an image pyramid as in pix2pixHD, BicycleGAN and MUNIT. (StEP's is `patchgan`.)
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.common.layers import Conv, Live
from models.common.norms import Norm, norm_layer
from models.common.pyramid import pyramid

SLOPE = 0.2
Scales = list[list[Tensor]]
"""Scale (finest first) -> its layers' activations, shallow to deep; the last is the map of logits."""


class PatchCritic(nn.Module):
    """Convolutions with a leaky ReLU 0.2 after each, then one to a single channel: a logit for each patch.

    The first has no norm. With batch norm those between the first and the last have no bias.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        strides: Sequence[int],
        kernel: int = 4,
        head_kernel: int = 4,
        padding: int = 1,
        norm: Norm = "batch",
        padding_mode: Literal["zeros", "reflect"] = "zeros",
        head_bias: bool = True,
    ) -> None:
        """
        Args:
            widths, strides: of each convolution before the last, which has stride 1.
            padding: of all convolutions, the last too unless it is 1 x 1.
        """
        super().__init__()
        biases = [True] + [norm != "batch"] * (len(widths) - 1)
        self.convs = nn.ModuleList(
            Conv(a, b, kernel, stride, padding, bias=bias, padding_mode=padding_mode)
            for (a, b), stride, bias in zip(pairwise([channels, *widths]), strides, biases, strict=True)
        )
        self.norms = nn.ModuleList(norm_layer("none" if i == 0 else norm, w) for i, w in enumerate(widths))
        self.head = Conv(widths[-1], 1, head_kernel, 1, 0 if head_kernel == 1 else padding, bias=head_bias)

    def forward(self, x: Float[Tensor, "b c h w"], live: Live | None = None) -> list[Tensor]:
        """Activations of each layer, the last the logits `b 1 h2 w2`."""
        found: list[Tensor] = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x), live), SLOPE, inplace=True)
            found.append(x)
        return [*found, self.head(x).to(self.head.weight.dtype)]  # losses in full precision under autocast

    def layers(self) -> list[Conv]:
        """The convolutions in the order they run."""
        return [layer for layer in [*self.convs, self.head] if isinstance(layer, Conv)]

    @property
    def receptive_field(self) -> int:
        """Side of the square of input pixels that one logit sees."""
        side = 1
        for layer in reversed(self.layers()):
            side = (side - 1) * layer.stride[0] + layer.kernel_size[0]
        return side

    def map_side(self, side: int) -> int:
        """Side of the map of logits for a picture of `side` pixels; below 1 where the picture is too small."""
        for layer in self.layers():
            side = (side + 2 * int(layer.padding[0]) - layer.kernel_size[0]) // layer.stride[0] + 1
        return side


class MultiScale(nn.Module):
    """Critics on a picture, its half, its quarter, ...; finest first."""

    def __init__(self, critics: Sequence[PatchCritic]) -> None:
        super().__init__()
        self.critics = nn.ModuleList(critics)

    def forward(self, x: Float[Tensor, "b c h w"], live: Live | None = None, skip: int = 0) -> Scales:
        """`skip`: leave out that many of the finest; x is then of the size that the next one sees."""
        critics = self.critics[skip:]
        sizes = pyramid(x, len(critics))
        return [critic(size, live) for critic, size in zip(critics, sizes, strict=True)]


def patch_critic(
    channels: int, width: int = 64, layers: int = 3, norm: Norm = "batch", padding: int = 1
) -> PatchCritic:
    """pix2pix's: `layers` 4 x 4 convolutions of stride 2, one of stride 1, and the last; the width doubles with each,
    up to 8 times. Receptive field 16, 34, 70, 142, 286 for 1 ... 5 layers; 0 is the PixelGAN, 1 x 1 alone.
    """
    if layers == 0:
        return PatchCritic(channels, (width, 2 * width), (1, 1), 1, 1, 0, norm, head_bias=norm != "batch")
    widths = [width * min(1 << i, 8) for i in range(layers + 1)]
    return PatchCritic(channels, widths, [2] * layers + [1], padding=padding, norm=norm)


def logits(scales: Scales) -> list[Tensor]:
    """The map of logits of each scale, for the losses of `adversarial`."""
    return [layers[-1] for layers in scales]
