"""PixelCNN with residual blocks and Gated PixelCNN: what `Levels` makes of images -> the head's numbers at every pixel.

Both are chains of a first causal convolution (mask A) and later ones (mask B), so that the numbers at a pixel depend on
earlier pixels in raster order alone, and with several groups, group c's on earlier channels of the same pixel too.

Weights begin such that what goes into a gate, and what goes on to the next layer beside the residuals, has mean square
1 in every layer (He et al., ICCV 2015, section 2.2, for this network); terms that are added share it. All residuals
together add 1 to the mean square of what they are added to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.pixelcnn.conditions import Condition, Shift
from models.pixelcnn.convolutions import Beside, Ordered, Rows
from models.pixelcnn.heads import scaled

GATED = 2.9402
"""1 / sqrt(E tanh^2(z) E sigmoid^2(z)), z ~ N(0, 1): what a gate's outputs are multiplied by to have mean square 1."""
RECTIFIED = 2**0.5
"""The same for a ReLU of N(0, 1): He et al., ICCV 2015, eq. 10."""
SHARED = 0.5**0.5
"""For each of two terms of a sum."""
NEARLY_EVEN = 0.1
"""For the head's numbers: the first guess is nearly the same everywhere."""


@dataclass(frozen=True)
class Sizes:
    """What both networks are made of."""

    channels: int
    """Of the images."""
    outputs: int
    """The head's numbers a pixel."""
    groups: int
    """Groups of features in the channels' order: the image's channels, or 1 where pixels are whole."""
    features: int
    """h (plain: 2h between the blocks) or p (gated)."""
    layers: int
    """Causal convolutions after the first one."""
    first_kernel: int
    kernel: int
    dilations: tuple[int, ...]
    """Of the later layers, cycled (gated only)."""
    head: int
    """Channels of the 1x1 convolution before the output's."""
    vector: int = 0
    """Length of the condition's vector; 0: none."""
    maps: int = 0
    """Channels of its map; 0: none."""
    embedding: int = 0
    """Size of the levels' embedding; 0: none."""

    @property
    def inputs(self) -> int:
        """Of the first layer."""
        return self.channels * (1 + self.embedding)


def gate(y: Float[Tensor, "b 2p ..."], groups: int) -> Float[Tensor, "b p ..."]:
    """tanh(f) sigmoid(g) (van den Oord et al., NeurIPS 2016, eq. 2), f and g the halves of each group's channels."""
    if groups == 1:  # the same, but gradients stay channels last, which is faster
        f, g = y.chunk(2, 1)
        return torch.tanh(f) * torch.sigmoid(g)
    f, g = torch.unflatten(y, 1, (groups, 2, -1)).unbind(2)
    return (torch.tanh(f) * torch.sigmoid(g)).flatten(1, 2)


class Levels(nn.Module):
    """What the networks read of an image: each channel's value in [-1, 1], then the embedding of its level, which tells
    one grey from the next where a value hardly can. It begins as N(0, 1)."""

    def __init__(self, levels: int, embedding: int, generator: torch.Generator) -> None:
        super().__init__()
        self.levels = levels
        drawn = torch.randn(levels, embedding, generator=generator)
        self.table = nn.Parameter(drawn) if embedding else None

    def forward(self, x: Int[Tensor, "b c *any"], dtype: torch.dtype) -> Float[Tensor, "b i *any"]:
        """Channel by channel: 1 + `embedding` numbers each."""
        value = scaled(x, self.levels, dtype)
        if self.table is None:
            return value
        learned = F.embedding(x.long(), self.table.to(dtype)).movedim(-1, 2)
        return torch.cat([value[:, :, None], learned], 2).flatten(1, 2)


def plus(y: Tensor, shift: Tensor | None) -> Tensor:
    return y if shift is None else y + shift


class Output(nn.Module):
    """Two ReLUs, each with a 1x1 convolution by channel order."""

    def __init__(self, inputs: int, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__()
        self.hidden = Ordered(inputs, sizes.head, sizes.groups, generator, gain=RECTIFIED)
        self.out = Ordered(sizes.head, sizes.outputs, sizes.groups, generator, gain=NEARLY_EVEN * RECTIFIED)

    def forward(self, h: Float[Tensor, "b i h w"]) -> Float[Tensor, "b p h w"]:
        y: Tensor = self.out(F.relu(self.hidden(F.relu(h))))
        return y


class GatedLayer(nn.Module):
    """Figure 2 of the paper. The vertical stack's row r knows of rows < r of the image from the first layer on, so
    nothing is shifted between the stacks; the horizontal stack never feeds the vertical one, and alone has the
    residual."""

    def __init__(self, sizes: Sizes, number: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first, last = number == 0, number == sizes.layers
        self.groups = g = sizes.groups
        p = sizes.features
        inputs, kernel = (sizes.inputs, sizes.first_kernel) if self.first else (p, sizes.kernel)
        dilation = 1 if self.first else sizes.dilations[(number - 1) % len(sizes.dilations)]
        after_gate = 1.0 if self.first else GATED
        self.rows = Rows(inputs, 2 * p, kernel, generator, own=not self.first, dilation=dilation, gain=after_gate)
        self.beside = Beside(inputs, 2 * p, kernel, g, generator, self.first, dilation, gain=SHARED)
        self.across = Ordered(2 * p, 2 * p, 1, generator, bias=False, gain=SHARED)
        share = 1.0 if self.first else sizes.layers**-0.5
        self.residual = Ordered(p, p, g, generator, gain=GATED * share)
        # Nobody reads the last layer's vertical features.
        self.rows_shift = None if last else Shift(sizes.vector, sizes.maps, 2 * p, generator)
        self.beside_shift = Shift(sizes.vector, sizes.maps, 2 * p, generator)

    def forward(
        self, v: Float[Tensor, "b i h w"], h: Float[Tensor, "b i h w"], condition: Condition
    ) -> tuple[Tensor, Tensor]:
        above = self.rows(v)
        y = plus(self.beside(h) + self.across(above), self.beside_shift(condition))
        out = self.residual(gate(y, self.groups))
        if self.rows_shift is not None:
            v = gate(plus(above, self.rows_shift(condition)), self.groups)
        return v, out if self.first else h + out  # a residual on the input itself would show the pixel


class Gated(nn.Module):
    """Gated PixelCNN (van den Oord et al., Conditional Image Generation with PixelCNN Decoders, NeurIPS 2016)."""

    def __init__(self, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__()
        self.sizes = sizes
        self.layers = nn.ModuleList(GatedLayer(sizes, number, generator) for number in range(sizes.layers + 1))
        self.output = Output(sizes.features, sizes, generator)

    @property
    def parts(self) -> list[GatedLayer]:
        """Its layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, GatedLayer)]

    def forward(self, x: Float[Tensor, "b c h w"], condition: Condition) -> Float[Tensor, "b p h w"]:
        v, h = x, x
        for layer in self.parts:
            v, h = layer(v, h, condition)
        y: Tensor = self.output(h)
        return y


class PlainLayer(nn.Module):
    """A causal k x k convolution with its condition. Alone the first layer; within a `Block` the later ones."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, sizes: Sizes, generator: torch.Generator, first: bool = False
    ) -> None:
        super().__init__()
        gain = SHARED * (1.0 if first else RECTIFIED)
        self.rows = Rows(inputs, outputs, kernel, generator, gain=gain)
        self.beside = Beside(inputs, outputs, kernel, sizes.groups, generator, first, gain=gain)
        self.shift = Shift(sizes.vector, sizes.maps, outputs, generator)

    def forward(self, x: Float[Tensor, "b i h w"], condition: Condition) -> Float[Tensor, "b o h w"]:
        return plus(self.rows(x) + self.beside(x), self.shift(condition))


class Block(nn.Module):
    """The residual block of PixelRNN's figure 5: 1x1 to h, causal k x k, 1x1 back to 2h, each after a ReLU."""

    def __init__(self, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__()
        h = sizes.features
        self.down = Ordered(2 * h, h, sizes.groups, generator, gain=RECTIFIED)
        self.causal = PlainLayer(h, h, sizes.kernel, sizes, generator)
        self.up = Ordered(h, 2 * h, sizes.groups, generator, gain=RECTIFIED * sizes.layers**-0.5)

    def forward(self, x: Float[Tensor, "b i h w"], condition: Condition) -> Float[Tensor, "b i h w"]:
        y: Tensor = self.causal(F.relu(self.down(F.relu(x))), condition)
        y = self.up(F.relu(y))
        return x + y


class Plain(nn.Module):
    """PixelCNN (van den Oord, Kalchbrenner, Kavukcuoglu, Pixel Recurrent Neural Networks, ICML 2016, section 3.3 and
    table 1). Its receptive field has a blind spot; `Gated` has none."""

    def __init__(self, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__()
        self.sizes = sizes
        width = 2 * sizes.features
        self.first = PlainLayer(sizes.inputs, width, sizes.first_kernel, sizes, generator, first=True)
        self.blocks = nn.ModuleList(Block(sizes, generator) for _ in range(sizes.layers))
        self.output = Output(width, sizes, generator)

    @property
    def parts(self) -> list[Block]:
        """Its blocks, first to last."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def forward(self, x: Float[Tensor, "b c h w"], condition: Condition) -> Float[Tensor, "b p h w"]:
        h = self.first(x, condition)
        for block in self.parts:
            h = block(h, condition)
        y: Tensor = self.output(h)
        return y
