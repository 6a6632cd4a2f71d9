"""Layers whose first weights and whose noise come from passed generators, and statistics over all workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from models.gans.terms import Random
from models.group import Group

SLOPE = 0.2

Init = Callable[[Tensor, int, torch.Generator], object]
"""`init(weight, inputs per output, generator)`, in place."""


def normal(std: float) -> Init:
    """N(0, std^2)."""
    return lambda weight, fan_in, generator: weight.normal_(0.0, std, generator=generator)


def he(weight: Tensor, fan_in: int, generator: torch.Generator) -> None:
    """N(0, 2 / fan_in) (He et al. 2015)."""
    weight.normal_(0.0, math.sqrt(2 / fan_in), generator=generator)


def lecun(weight: Tensor, fan_in: int, generator: torch.Generator) -> None:
    """N(0, 1 / fan_in): keeps the variance through linear and tanh layers."""
    weight.normal_(0.0, math.sqrt(1 / fan_in), generator=generator)


@torch.no_grad()
def linear(inputs: int, outputs: int, generator: torch.Generator, init: Init = he) -> nn.Linear:
    """A fully connected layer; bias 0."""
    layer: nn.Linear = skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
    init(layer.weight, inputs, generator)
    layer.bias.zero_()
    return layer


@torch.no_grad()
def conv(
    inputs: int, outputs: int, kernel: int, generator: torch.Generator, stride: int = 1, init: Init = he
) -> nn.Conv2d:
    """Convolution, zero padding: stride 1 keeps the side of odd kernels, stride 2 halves that of 4 x 4; bias 0."""
    side = (kernel - 1) // 2
    layer: nn.Conv2d = skip_init(nn.Conv2d, inputs, outputs, kernel, stride, side)  # type: ignore[no-untyped-call]
    init(layer.weight, inputs * kernel * kernel, generator)
    assert layer.bias is not None
    layer.bias.zero_()
    return layer


@torch.no_grad()
def enlarging(inputs: int, outputs: int, generator: torch.Generator, init: Init = he) -> nn.ConvTranspose2d:
    """Transposed convolution 4 x 4, stride 2: doubles the side; bias 0."""
    made = skip_init(nn.ConvTranspose2d, inputs, outputs, 4, 2, 1)  # type: ignore[no-untyped-call]
    layer: nn.ConvTranspose2d = made
    init(layer.weight, inputs * 4, generator)  # each output meets 2 x 2 of the kernel's 16 places
    assert layer.bias is not None
    layer.bias.zero_()
    return layer


class BatchNorm(nn.Module):
    """(x - mean) / sqrt(var + 1e-5) over the whole batch of all workers, and all positions; learned scale and shift.
    Otherwise as `nn.BatchNorm2d`: running averages, momentum 0.1, serve in evaluation mode."""

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, group: Group) -> None:
        super().__init__()
        self.group = group
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.group.on):
            return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, self.training)
        over = [d for d in range(x.ndim) if d != 1]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        own = x.mean(over)
        means = self.group.gather(own[None])
        mean = means.mean(0)
        # Each worker's variance about its own mean, and that of the means: no difference of large squares.
        within = self.group.gather((x - own.view(shape)).square().mean(over)[None]).mean(0)
        variance = within + (means - mean).square().mean(0)
        with torch.no_grad():
            count = x.numel() // x.shape[1] * self.group.world
            self.mean.lerp_(mean.to(self.mean), 0.1)
            self.variance.lerp_((variance * count / (count - 1)).to(self.variance), 0.1)
        x = (x - mean.view(shape)) * (variance + 1e-5).rsqrt().view(shape)
        return x * self.weight.view(shape) + self.bias.view(shape)


class Noise(nn.Module):
    """x + N(0, std^2) while training."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Tensor, random: Random) -> Tensor:
        return x + self.std * random.normal(*x.shape).to(x) if self.training else x


class Dropout(nn.Module):
    """Zeroes each element with probability `share` while training, and scales the others by 1 / (1 - share)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, random: Random) -> Tensor:
        if not self.training:
            return x
        return x * (random.uniform(*x.shape) >= self.share).to(x) / (1 - self.share)


class Maxout(nn.Module):
    """The largest of each `pieces` neighbouring columns: `B pieces*D` -> `B D` (Goodfellow et al. 2013)."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1, self.pieces).amax(2)


class SmoothELU(nn.Module):
    """softplus(2x + 2) / 2 - 1: near ELU, but twice differentiable. WGAN-GP did not train with ELU, did with this
    (Gulrajani et al. 2017, appendix)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(2 * x + 2) / 2 - 1


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": lambda: nn.LeakyReLU(SLOPE),
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "smooth-elu": SmoothELU,
    "maxout-5": lambda: Maxout(5),
}
"""By name, as in recipes."""


class Chain(nn.ModuleList):
    """Layers one after another; those with noise get `random`."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__(layers)

    def forward(self, x: Tensor, random: Random | None = None) -> Tensor:
        for layer in self:
            if isinstance(layer, Noise | Dropout):
                assert random is not None or not self.training, "noise layers draw from a passed generator"
                x = layer(x, random) if random is not None else x
            else:
                x = layer(x)
        return x
