"""Convolutions whose first weights come from a passed generator, and dropout whose masks do.

A network is built with zeros (so also on the `meta` device, where sizes cost nothing) and then given its weights by one
call of `initialise`, module by module in the order they were registered.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.group import Group

Fill = Callable[..., Tensor]
"""`fill(weight, generator=...)`: draws a weight in place."""


class Conv(nn.Conv2d):
    """nn.Conv2d that starts from zeros and leaves the global random state alone."""

    def reset_parameters(self) -> None:
        zero(self)


class Transposed(nn.ConvTranspose2d):
    """nn.ConvTranspose2d that starts from zeros and leaves the global random state alone."""

    def reset_parameters(self) -> None:
        zero(self)


class Linear(nn.Linear):
    """nn.Linear that starts from zeros and leaves the global random state alone."""

    def reset_parameters(self) -> None:
        zero(self)


def zero(layer: nn.Module) -> None:
    """Set all weights of `layer` to 0."""
    for p in layer.parameters(recurse=False):
        nn.init.zeros_(p)


def normal(deviation: float = 0.02) -> Fill:
    """N(0, deviation^2)."""
    return partial(nn.init.normal_, std=deviation)


def xavier(gain: float = 1.0) -> Fill:
    """N(0, gain^2 * 2 / (fan in + fan out)) (Glorot & Bengio, AISTATS 2010, equation 12)."""
    return partial(nn.init.xavier_normal_, gain=gain)


def kaiming(slope: float = 0.0) -> Fill:
    """N(0, 2 / ((1 + slope^2) fan in)) (He et al., ICCV 2015, equations 10 and 15). `slope`: the rectifier's below 0; 1
    is a linear layer, whose outputs then vary as its inputs do."""
    return partial(nn.init.kaiming_normal_, a=slope, mode="fan_in")


@torch.no_grad()
def initialise(net: nn.Module, generator: torch.Generator, fill: Fill, uniform_biases: bool = False) -> None:
    """Draw the weights of all convolutions and linear layers of `net` with `fill`; the scales of batch norms from
    N(1, 0.02^2), as pix2pix's code does. The rest stays as it was built.

    Args:
        uniform_biases: biases from U(-b, b), b = 1 / sqrt(fan in), PyTorch's default, which pix2pixHD's code keeps;
            otherwise they are 0.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            fill(layer.weight, generator=generator)
            if layer.bias is not None and uniform_biases:
                bound = layer.weight[0].numel() ** -0.5  # PyTorch counts a transposed convolution's outputs here
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02, generator=generator)


@dataclass(frozen=True)
class Live:
    """How a network runs while it trains (and how pix2pix also runs when it is used): with dropout and with the
    statistics of the batch. Networks take it as an argument; None means neither."""

    generator: torch.Generator | None
    """CPU generator of the dropout masks, the same on every rank; None: without dropout."""
    group: Group | None
    """Whose batch the statistics are of; None: each picture has its own, as with batch 1."""

    def rows(self, shape: torch.Size | tuple[int, ...], draw: Callable[..., Tensor] = torch.randn) -> Tensor:
        """This piece's rows of `draw(global shape, generator=...)`: drawn for the whole global batch, so that the
        numbers do not depend on how many workers and micro-batches share it.

        Args:
            shape: of this rank's share or micro-batch; the first dimension is the batch.
        """
        assert self.generator is not None, "rows are drawn from a passed generator"
        piece, pieces = (self.group.piece, self.group.pieces) if self.group else (0, 1)
        whole = draw((shape[0] * pieces, *shape[1:]), generator=self.generator)
        return whole[piece * shape[0] : (piece + 1) * shape[0]]


class Dropout(nn.Module):
    """Sets entries to 0 with probability `rate` and divides the others by 1 - rate; does nothing without `live`."""

    def __init__(self, rate: float = 0.5) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"--dropout {rate}: give a probability below 1")
        self.rate = rate

    def forward(self, x: Float[Tensor, "b c h w"], live: Live | None) -> Float[Tensor, "b c h w"]:
        if live is None or live.generator is None or not self.rate:
            return x
        kept = live.rows(x.shape, torch.rand) >= self.rate
        return x * kept.to(device=x.device, dtype=x.dtype).div_(1 - self.rate)
