"""A small U-Net for the velocity field (Ho et al., NeurIPS 2020, appendix B, made smaller, without attention)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.common.layers import Conv, Linear, initialise, kaiming, zero

GROUPS = 8


class Block(nn.Module):
    """norm, SiLU, conv3, norm with the time's scale and shift, SiLU, conv3 (zero at first), + x."""

    def __init__(self, inputs: int, outputs: int, time: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(GROUPS, width), width) for width in (inputs, outputs))
        self.first = Conv(inputs, outputs, 3, padding=1)
        self.second = Conv(outputs, outputs, 3, padding=1)
        self.time = Linear(time, 2 * outputs)
        self.short = Conv(inputs, outputs, 1)

    def forward(self, x: Float[Tensor, "b i h w"], t: Float[Tensor, "b d"]) -> Float[Tensor, "b o h w"]:
        scale, shift = self.time(t)[:, :, None, None].chunk(2, 1)
        y = self.first(F.silu(self.norms[0](x)))
        y = self.second(F.silu(self.norms[1](y) * (1 + scale) + shift))
        return torch.add(self.short(x), y)


class VelocityNet(nn.Module):
    """v(x, t, input): state, time in [0, 1] and the input (of `channels`, 0 for none) -> velocity. The U-Net sees a
    square of `patch` x `patch` pixels as one. It guesses the target y; v = (y - x) / (1 - t): a picture is easier to
    guess than noise (Li and He 2025). `widths`: at its full size, half, a quarter, ..."""

    def __init__(self, channels: int, outputs: int, widths: Sequence[int], blocks: int = 1, patch: int = 1) -> None:
        super().__init__()
        time, area, self.patch = 4 * widths[0], patch**2, patch
        self.multiple = patch << (len(widths) - 1)
        self.least = nn.Buffer(torch.tensor(0.05))  # of 1 - t, as Li and He; weights of a net for v itself lack it
        self.times = nn.ModuleList([Linear(widths[0], time), Linear(time, time)])
        self.first = Conv((channels + outputs) * area, widths[0], 3, padding=1)
        self.downs, self.ups, stack, width = nn.ModuleList(), nn.ModuleList(), [widths[0]], widths[0]
        for i, wide in enumerate(widths):
            for _ in range(blocks):
                self.downs.append(Block(width, wide, time))
                width = wide
                stack.append(width)
            if i + 1 < len(widths):
                self.downs.append(Conv(width, width, 3, 2, 1))
                stack.append(width)
        self.middle = Block(width, width, time)
        for i, wide in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.ups.append(Block(width + stack.pop(), wide, time))
                width = wide
            if i:
                self.ups.append(Conv(width, width, 3, padding=1))
        self.norm = nn.GroupNorm(math.gcd(GROUPS, width), width)
        self.head = Conv(width, outputs * area, 3, padding=1)

    def draw(self, generator: torch.Generator) -> None:
        """First weights: N(0, 1 / fan in), so that the deep path does not drown the skips; 0 at each branch's end."""
        initialise(self, generator, kaiming(1.0))
        for layer in [self.head, *(block.second for block in self.modules() if isinstance(block, Block))]:
            zero(layer)

    def forward(
        self, x: Float[Tensor, "b o h w"], t: Float[Tensor, " b"], given: Float[Tensor, "b c h w"] | None = None
    ) -> Float[Tensor, "b o h w"]:
        if any(side % self.multiple for side in x.shape[2:]):
            raise ValueError(f"{x.shape[2]} x {x.shape[3]} pixels: the sides must be multiples of {self.multiple}")
        embedded = self.times[1](F.silu(self.times[0](waves(t, self.head.in_channels))))
        stack = [self.first(F.pixel_unshuffle(x if given is None else torch.cat([x, given], 1), self.patch))]
        for layer in self.downs:
            stack.append(layer(stack[-1], embedded) if isinstance(layer, Block) else layer(stack[-1]))
        y = self.middle(stack[-1], embedded)
        for layer in self.ups:
            if isinstance(layer, Block):
                y = layer(torch.cat([y, stack.pop()], 1), embedded)
            else:
                y = layer(F.interpolate(y, scale_factor=2, mode="nearest"))
        y = F.pixel_shuffle(self.head(F.silu(self.norm(y))), self.patch)
        return (y.to(x) - x) / (1 - t).clamp(min=self.least).view(-1, 1, 1, 1)


def waves(t: Float[Tensor, " b"], width: int) -> Float[Tensor, "b w"]:
    """sin and cos of 1000 t at frequencies from 1 down to 1 / 10000 (Vaswani et al. 2017, section 3.5)."""
    powers = torch.arange(width // 2, dtype=t.dtype, device=t.device) / (width // 2)
    angles = 1000 * t[:, None] * 10000.0**-powers
    return torch.cat([angles.sin(), angles.cos()], 1)
