"""The networks pixel by pixel, for sampling: what earlier pixels have led to is kept, and only what a new pixel changes
is computed. A row costs one convolution over k rows in each layer, a pixel a few products of a matrix and a vector.

Source of the idea: Ramachandran et al., Fast Generation for Convolutional Autoregressive Models, 2017.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from models.pixelcnn.conditions import Condition
from models.pixelcnn.convolutions import Beside, Ordered, Rows
from models.pixelcnn.model import Model
from models.pixelcnn.networks import Gated, GatedLayer, Levels, Output, Plain, PlainLayer, gate


class Steps(Protocol):
    """A network evaluated along the raster: for each row `row`, then for each of its pixels `pixel` (again where a
    channel of the pixel became known), then `put`."""

    def row(self, x: Int[Tensor, "b c h w"], r: int) -> None:
        """Begin row `r`: all rows above it are known."""
        ...

    def pixel(self, x: Int[Tensor, "b c h w"], r: int, c: int) -> Float[Tensor, "b p"]:
        """The head's numbers at (r, c), from all that is known."""
        ...

    def put(self, x: Int[Tensor, "b c h w"], r: int, c: int) -> None:
        """All channels of (r, c) are known."""
        ...


class Naive:
    """The whole network again for every pixel: what `cached` is compared with."""

    def __init__(self, model: Model, condition: Condition) -> None:
        self.model, self.condition = model, condition

    def row(self, x: Tensor, r: int) -> None: ...

    def pixel(self, x: Int[Tensor, "b c h w"], r: int, c: int) -> Float[Tensor, "b p"]:
        outputs: Tensor = self.model(x, self.condition)
        return outputs[:, :, r, c]

    def put(self, x: Tensor, r: int, c: int) -> None: ...


class _Line:
    """A layer's own row: its inputs so far, beginning with the zeros left of the image, and what rows above, bias and
    condition add."""

    def __init__(self, beside: Beside, inputs: int, batch: int, width: int) -> None:
        self.beside, self.matrix, self.left = beside, beside.matrix(), beside.left
        self.inputs = self.matrix.new_zeros(batch, beside.left + width, inputs)
        self.base = self.matrix.new_zeros(width, batch, self.matrix.shape[1])

    def rest(self, y: Float[Tensor, "b o 1 w"], shift: Tensor | None, r: int) -> None:
        """Take what the rows above add to row `r`."""
        y = y + self.beside.bias[:, None, None]
        self.base = _plus_row(y, shift, r)[:, :, 0].permute(2, 0, 1).contiguous()  # W B o

    def put(self, x: Float[Tensor, "b i"], c: int) -> None:
        self.inputs[:, c + self.left] = x

    def at(self, c: int) -> Float[Tensor, "b o"]:
        return torch.addmm(self.base[c], self.beside.window(self.inputs, c), self.matrix)

    def whole(self) -> Float[Tensor, "b i 1 w"]:
        """The row's inputs, once all are known."""
        return self.inputs[:, self.left :].transpose(1, 2)[:, :, None]


class _Rows:
    """The last rows that a layer's `Rows` looks at."""

    def __init__(self, rows: Rows, like: Tensor) -> None:
        self.rows, self.window = rows, rows.window(like)

    def push(self, row: Float[Tensor, "b i 1 w"]) -> None:
        self.window = torch.cat([self.window[:, :, 1:], row], 2)

    def step(self) -> Float[Tensor, "b o 1 w"]:
        return self.rows.step(self.window)


class _Across:
    """A 1x1 convolution as a matrix."""

    def __init__(self, layer: Ordered) -> None:
        self.matrix, self.bias = layer.matrix(), layer.bias

    def __call__(self, x: Float[Tensor, "b i"]) -> Float[Tensor, "b o"]:
        return x @ self.matrix if self.bias is None else torch.addmm(self.bias, x, self.matrix)


class _Output:
    def __init__(self, output: Output) -> None:
        self.hidden, self.out = _Across(output.hidden), _Across(output.out)

    def __call__(self, h: Float[Tensor, "b i"]) -> Float[Tensor, "b p"]:
        return self.out(F.relu(self.hidden(F.relu(h))))


class _GatedLayer:
    def __init__(self, layer: GatedLayer, like: Tensor, condition: Condition) -> None:
        self.layer = layer
        self.rows = _Rows(layer.rows, like)
        self.line = _Line(layer.beside, like.shape[1], len(like), like.shape[3])
        self.residual = _Across(layer.residual)
        self.shift = layer.beside_shift(condition)
        self.rows_shift = layer.rows_shift(condition) if layer.rows_shift is not None else None

    def row(self, v: Float[Tensor, "b i 1 w"], r: int) -> Float[Tensor, "b o 1 w"]:
        """The vertical stack in row `r`, and what it adds to the horizontal one."""
        self.rows.push(v)
        above = self.rows.step()
        self.line.rest(self.layer.across(above), self.shift, r)
        return gate(_plus_row(above, self.rows_shift, r), self.layer.groups)

    def pixel(self, h: Float[Tensor, "b i"], c: int) -> Float[Tensor, "b o"]:
        self.line.put(h, c)
        out = self.residual(gate(self.line.at(c), self.layer.groups))
        return out if self.layer.first else h + out


class GatedSteps:
    """`Steps` of Gated PixelCNN."""

    def __init__(self, net: Gated, like: Float[Tensor, "b i h w"], read: Levels, condition: Condition) -> None:
        self.read, self.like = read, like
        maps = [like, *(like[:, :1].expand(-1, net.sizes.features, -1, -1) for _ in range(net.sizes.layers))]
        self.layers = [_GatedLayer(x, y, condition) for x, y in zip(net.parts, maps, strict=True)]
        self.output = _Output(net.output)

    def row(self, x: Int[Tensor, "b c h w"], r: int) -> None:
        # The first layer's newest row is the one above, zeros before the first; each later one's is row r itself.
        v = self.read(x[:, :, r - 1 : r], self.like.dtype) if r else torch.zeros_like(self.like[:, :, :1])
        for layer in self.layers:
            v = layer.row(v, r)

    def pixel(self, x: Int[Tensor, "b c h w"], r: int, c: int) -> Float[Tensor, "b p"]:
        h = self.read(x[:, :, r, c], self.like.dtype)
        for layer in self.layers:
            h = layer.pixel(h, c)
        return self.output(h)

    def put(self, x: Int[Tensor, "b c h w"], r: int, c: int) -> None:
        self.layers[0].line.put(self.read(x[:, :, r, c], self.like.dtype), c)


class _PlainLayer:
    def __init__(self, layer: PlainLayer, like: Tensor, condition: Condition) -> None:
        self.rows = _Rows(layer.rows, like)
        self.line = _Line(layer.beside, like.shape[1], len(like), like.shape[3])
        self.shift: Tensor | None = layer.shift(condition)

    def row(self, r: int) -> None:
        """The line of the row before is complete: it is one of the rows above now."""
        self.rows.push(self.line.whole() if r else torch.zeros_like(self.line.whole()))
        self.line.rest(self.rows.step(), self.shift, r)


class PlainSteps:
    """`Steps` of the plain PixelCNN."""

    def __init__(self, net: Plain, like: Float[Tensor, "b i h w"], read: Levels, condition: Condition) -> None:
        self.read, self.like = read, like
        self.first = _PlainLayer(net.first, like, condition)
        inner = like[:, :1].expand(-1, net.sizes.features, -1, -1)
        self.blocks = [(_Across(b.down), _PlainLayer(b.causal, inner, condition), _Across(b.up)) for b in net.parts]
        self.output = _Output(net.output)

    def row(self, x: Int[Tensor, "b c h w"], r: int) -> None:
        for layer in (self.first, *(layer for _, layer, _ in self.blocks)):
            layer.row(r)

    def pixel(self, x: Int[Tensor, "b c h w"], r: int, c: int) -> Float[Tensor, "b p"]:
        self.put(x, r, c)
        h = self.first.line.at(c)
        for down, causal, up in self.blocks:
            causal.line.put(F.relu(down(F.relu(h))), c)
            h = h + up(F.relu(causal.line.at(c)))
        return self.output(h)

    def put(self, x: Int[Tensor, "b c h w"], r: int, c: int) -> None:
        self.first.line.put(self.read(x[:, :, r, c], self.like.dtype), c)


def cached(model: Model, like: Int[Tensor, "b c h w"], condition: Condition) -> GatedSteps | PlainSteps:
    """The model's network along the raster of images like `like`."""
    net = model.net
    zeros = torch.zeros(len(like), net.sizes.inputs, *like.shape[2:], dtype=model.dtype, device=like.device)
    if isinstance(net, Gated):
        return GatedSteps(net, zeros, model.read, condition)
    return PlainSteps(net, zeros, model.read, condition)


def _plus_row(y: Float[Tensor, "b o 1 w"], shift: Tensor | None, r: int) -> Float[Tensor, "b o 1 w"]:
    """A condition's share in row `r`."""
    if shift is None:
        return y
    return y + (shift if shift.shape[2] == 1 else shift[:, :, r : r + 1])
