"""Convolutions that see earlier pixels only. What a mask would forbid is not connected: no weight is ever zeroed.

A k x k convolution with a causal mask is the sum of one over the rows above (`Rows`) and one over the pixel's own row
(`Beside`), whose last tap is the pixel itself, connected by channel order (`Ordered`). Mask A (first layer): group g of
the channels sees groups < g of the same pixel; mask B (later layers): groups <= g. With one group a pixel is whole.

Each layer has two forms with the same weights: `forward` over whole images, and `step` for the cached sampler.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def weights(*shape: int, generator: torch.Generator, gain: float = 1.0, fan_in: int = 0) -> nn.Parameter:
    """N(0, gain^2 / fan in): inputs of mean square 1 give outputs of mean square gain^2.

    Args:
        fan_in: inputs of an output; 0: the product of all dimensions but the first.
    """
    fan_in = fan_in or max(1, torch.Size(shape[1:]).numel())
    return nn.Parameter(torch.randn(shape, generator=generator) * (gain * fan_in**-0.5))


class Rows(nn.Module):
    """k columns of the k // 2 rows above each pixel, and with `own` of the pixel's own row: it must then be given
    features that know of earlier rows only (the vertical stack's)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        generator: torch.Generator,
        own: bool = False,
        dilation: int = 1,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.own, self.dilation = own, dilation
        self.above = dilation * (kernel // 2)
        self.weight = weights(outputs, inputs, kernel // 2 + own, kernel, generator=generator, gain=gain)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        skipped = 0 if self.own else -self.dilation
        return self._over(F.pad(x, (0, 0, self.above, skipped)))

    def _over(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=(0, self.above), dilation=self.dilation)

    def window(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b i r w"]:
        """Room for the rows that one row's `step` looks at, before the first row of images like `x`."""
        return x.new_zeros(len(x), self.weight.shape[1], self.above + self.own, x.shape[3])

    def step(self, window: Float[Tensor, "b i r w"]) -> Float[Tensor, "b o 1 w"]:
        """One row of outputs from the last rows of inputs, the newest last."""
        skipped = 0 if self.own else 1 - self.dilation
        return self._over(F.pad(window, (0, 0, 0, skipped)) if skipped else window)


class Ordered(nn.Module):
    """A 1x1 convolution by channel order: group g of the outputs sees groups <= g of the inputs, or < g without `own`.
    One group: an ordinary 1x1 convolution."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        groups: int,
        generator: torch.Generator,
        own: bool = True,
        bias: bool = True,
        gain: float = 1.0,
        fan_in: int = 0,
    ) -> None:
        super().__init__()
        self.sizes = [inputs // groups * (g + own) for g in range(groups)]
        self.weights = nn.ParameterList(
            weights(outputs // groups, size, 1, 1, generator=generator, gain=gain, fan_in=fan_in)
            for size in self.sizes
            if size
        )
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.inputs, self.outputs = inputs, outputs

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        if len(self.sizes) == 1:
            return F.conv2d(x, self.weights[0], self.bias)
        parts = [F.conv2d(x[:, : w.shape[1]], w) for w in self.weights]
        if len(parts) < len(self.sizes):  # the first group sees nothing
            parts.insert(0, torch.zeros_like(parts[0]))
        y = torch.cat(parts, 1)
        return y if self.bias is None else y + self.bias[:, None, None]

    def matrix(self) -> Float[Tensor, "i o"]:
        """All of it as one matrix, with zeros where nothing is connected."""
        y: Tensor = self.weights[0].new_zeros(self.inputs, self.outputs)
        rows = self.outputs // len(self.sizes)
        for w in self.weights:
            g = self.sizes.index(w.shape[1])
            y[: w.shape[1], g * rows : (g + 1) * rows] = w.detach()[:, :, 0, 0].T
        return y


class Beside(nn.Module):
    """The k // 2 earlier pixels of the row, and the pixel itself by channel order (mask A with `first`, else B)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        groups: int,
        generator: torch.Generator,
        first: bool = False,
        dilation: int = 1,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.taps, self.dilation = kernel // 2, dilation
        self.whole = groups == 1 and not first  # the pixel itself is one more tap
        fan_in = inputs * (self.taps + (groups > 1 or self.whole))  # of the last group: earlier ones see less
        self.weight = weights(outputs, inputs, 1, self.taps + self.whole, generator=generator, gain=gain, fan_in=fan_in)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.centre = (
            Ordered(inputs, outputs, groups, generator, not first, bias=False, gain=gain, fan_in=fan_in)
            if groups > 1
            else None
        )

    @property
    def left(self) -> int:
        """Columns to the left that it looks at."""
        return self.taps * self.dilation

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        padded = F.pad(x, (self.left, 0 if self.whole else -self.dilation))
        y = F.conv2d(padded, self.weight, self.bias, dilation=(1, self.dilation))
        return y if self.centre is None else y + self.centre(x)

    def matrix(self) -> Float[Tensor, "ti o"]:
        """The weights for `step`: the earlier columns' inputs, then the pixel's own, times this matrix."""
        _, inputs, _, taps = self.weight.shape
        left = self.weight.detach()[:, :, 0].permute(2, 1, 0).reshape(taps * inputs, -1)
        if self.whole:
            return left
        own = left.new_zeros(inputs, left.shape[1]) if self.centre is None else self.centre.matrix()
        return torch.cat([left, own])

    def window(self, line: Float[Tensor, "b l i"], column: int) -> Float[Tensor, "b ti"]:
        """What `matrix` multiplies, from a row of inputs that begins `left` columns early."""
        return line[:, column : column + self.left + 1 : self.dilation].flatten(1)
