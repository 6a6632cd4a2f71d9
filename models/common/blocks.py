"""Layers that several families share. Every layer draws its first weights from a passed-in generator."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

PIXEL_EPS = 1e-8
INSTANCE_EPS = 1e-5


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """(before, after) zeros of TensorFlow's 'SAME' padding: output side ceil(size / stride), the odd zero at the end.

    3x3 stride 2 on an even side gives (0, 1), where PyTorch's `padding=1` would give (1, 1) on another grid;
    4x4 stride 1 gives (1, 2).
    """
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def equalised_scale(fan_in: int, slope: float) -> float:
    """sqrt(2 / ((1 + slope^2) fan_in)): He's standard deviation for a leaky ReLU, applied when the layer runs."""
    return math.sqrt(2.0 / ((1.0 + slope**2) * fan_in))


class EqualisedConv(nn.Module):
    """Convolution with equalised learning rate (Karras et al. 2018, section 4.1) and 'SAME' zero padding.

    Weights start from N(0, 1) and are multiplied by `equalised_scale` at run time; biases start at 0.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, generator: torch.Generator, stride: int = 1, slope: float = 0.2
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.scale = equalised_scale(inputs * kernel * kernel, slope)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel, generator=generator))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        rows = same_padding(x.shape[2], self.kernel, self.stride)
        columns = same_padding(x.shape[3], self.kernel, self.stride)
        weight = self.weight * self.scale
        if rows[0] == rows[1] and columns[0] == columns[1]:
            return F.conv2d(x, weight, self.bias, self.stride, (rows[0], columns[0]))
        # conv2d pads both sides alike: the one-sided zero has to be added first.
        return F.conv2d(F.pad(x, (*columns, *rows)), weight, self.bias, self.stride)


class Dense(nn.Module):
    """x W^T + b with W ~ N(0, std), b = 0."""

    def __init__(self, inputs: int, outputs: int, std: float, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, generator=generator) * std)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Float[Tensor, "b i"]) -> Float[Tensor, "b o"]:
        return F.linear(x, self.weight, self.bias)


class InstanceNorm(nn.Module):
    """(x - mean) / sqrt(var + 1e-5) over each image's channel (population variance), with learned scale and shift."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=INSTANCE_EPS)


def pixel_norm(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """x / sqrt(mean over channels of x^2 + 1e-8) (Karras et al. 2018, section 4.2)."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + PIXEL_EPS)


def constant_maps(z: Float[Tensor, "b d"], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
    """The code as constant maps of the size of `like` (a view, nothing is copied)."""
    return z[:, :, None, None].expand(-1, -1, like.shape[2], like.shape[3])
