"""The U-Net of pix2pix (Isola et al., CVPR 2017, appendix 6.1), with BicycleGAN's code (Zhu et al., NeurIPS 2017,
section 4) at its input or in every layer of its first half.

All convolutions are 4 x 4 of stride 2, padding 1. Level i has min(2^i, 8) * width channels.
"""

from collections.abc import Collection
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.common.blocks import constant_maps
from models.common.layers import Conv, Dropout, Live, Transposed
from models.common.norms import Norm, norm_layer

SLOPE = 0.2


class UNet(nn.Module):
    """Picture (and code) -> picture in [-1, 1].

    Down: leaky ReLU 0.2 before each convolution but the first; a norm after each but the first and the last. Up: ReLU,
    transposed convolution, a norm after each but the last, tanh at the end. With batch norm no convolution has a bias
    but the last; otherwise all have one. A norm after the last convolution down would see 1 x 1 and make it 0.

    Activations are made in place, so a skip may carry the leaky ReLU's output: the ReLU behind it makes both the same.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        levels: int = 8,
        width: int = 64,
        norm: Norm = "batch",
        skips: bool = True,
        dropped: Collection[int] = (),
        code: int = 0,
        code_in: Literal["input", "all"] = "input",
        upsampling: Literal["transposed", "bilinear"] = "transposed",
    ) -> None:
        """
        Args:
            levels: 8 takes multiples of 256 pixels, 7 of 128.
            skips: False: the encoder-decoder without them.
            dropped: decoder layers with dropout 0.5, 1 the innermost: (1, 2, 3) in the paper and the Lua code,
                (2, 3, 4) in the PyTorch code, (2, 3) in its U-Net of 7 levels.
            code: entries of the code, 0 for none.
            code_in: concatenated to the input, or to the input of every convolution down.
            upsampling: `bilinear`: x2 and a 3 x 3 convolution with reflection padding in place of the transposed one.
        """
        super().__init__()
        if levels < 2:
            raise ValueError(f"--levels {levels}: give at least 2")
        self.code, self.code_in, self.skips, self.multiple = code, code_in, skips, 1 << levels
        widths = [width * min(1 << i, 8) for i in range(levels)]
        biased = norm != "batch"
        before = [channels, *widths[:-1]]
        added = [code if i == 0 or code_in == "all" else 0 for i in range(levels)]
        self.downs = nn.ModuleList(
            Conv(b + z, w, 4, 2, 1, bias=biased) for b, z, w in zip(before, added, widths, strict=True)
        )
        inner = range(1, levels - 1)
        self.down_norms = nn.ModuleList(norm_layer(norm if i in inner else "none", w) for i, w in enumerate(widths))
        ups = [widths[-1], *(w * (2 if skips else 1) for w in widths[-2::-1])]
        after = [*widths[-2::-1], outputs]
        up = Transposed if upsampling == "transposed" else BilinearUp
        biases = [biased] * (levels - 1) + [True]
        self.ups = nn.ModuleList(up(a, b, 4, 2, 1, bias=c) for a, b, c in zip(ups, after, biases, strict=True))
        self.up_norms = nn.ModuleList(norm_layer(norm, w) for w in after[:-1])
        self.dropouts = nn.ModuleList(Dropout(0.5 if i in dropped else 0.0) for i in range(1, levels))

    def forward(
        self, x: Float[Tensor, "b c h w"], z: Float[Tensor, "b d"] | None = None, live: Live | None = None
    ) -> Float[Tensor, "b o h w"]:
        self._check(x, z)
        levels: list[Tensor] = []
        for i, (conv, norm) in enumerate(zip(self.downs, self.down_norms, strict=True)):
            if z is not None and (i == 0 or self.code_in == "all"):
                x = torch.cat([x, constant_maps(z, x)], 1)  # before the ReLU, which the code also passes
            x = norm(conv(F.leaky_relu(x, SLOPE, inplace=True) if i else x), live)
            levels.append(x)
        for i, conv in enumerate(self.ups):
            if i and self.skips:
                x = torch.cat([levels[-1 - i], x], 1)
            x = conv(F.relu(x, inplace=True))
            if i < len(self.up_norms):
                x = self.dropouts[i](self.up_norms[i](x, live), live)
        return torch.tanh(x).to(next(self.parameters()).dtype)  # losses in full precision under autocast

    def _check(self, x: Tensor, z: Tensor | None) -> None:
        height, width = x.shape[2:]
        if height % self.multiple or width % self.multiple:
            raise ValueError(
                f"{height} x {width} pixels: this U-Net halves {len(self.downs)} times and takes multiples of "
                f"{self.multiple}; pad the picture, or use fewer levels"
            )
        given = 0 if z is None else z.shape[1]
        if given != self.code:
            raise ValueError(f"a code of {given} entries for a generator built with {self.code}")


class BilinearUp(Conv):
    """Twice the size by bilinear interpolation, then 3 x 3 with reflection padding; no checkerboard."""

    def __init__(self, inputs: int, outputs: int, *_: int, bias: bool) -> None:
        """Further arguments are those of the transposed convolution in whose place it stands."""
        super().__init__(inputs, outputs, 3, padding=1, padding_mode="reflect", bias=bias)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        return super().forward(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
