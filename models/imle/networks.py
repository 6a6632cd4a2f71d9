"""The cascaded refinement generator and the noise encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

BASE = 4
"""Height of the first module."""
SLOPE = 0.2
LAYER_EPS = 1e-12
"""TensorFlow slim's."""
ENCODER_WIDTH = 100
ENCODER_DEVIATION = 0.15


class LayerNorm(nn.Module):
    """(x - mean) / deviation over all C H W of a sample, then a scale and a shift for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return F.group_norm(x, 1, self.weight, self.bias, LAYER_EPS)


class Conv(nn.Module):
    """Convolution with zero padding that keeps the size. Weights: Glorot's uniform, or a normal of `deviation`, cut at
    two of them."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, generator: torch.Generator, bias: bool, deviation: float = 0.0
    ) -> None:
        super().__init__()
        weight = torch.empty(outputs, inputs, kernel, kernel)
        if deviation:
            nn.init.trunc_normal_(weight, 0.0, deviation, -2 * deviation, 2 * deviation, generator)
        else:
            edge = math.sqrt(6 / ((inputs + outputs) * kernel * kernel))
            weight.uniform_(-edge, edge, generator=generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        return F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)


class Refinement(nn.Module):
    """Two 3 x 3 convolutions, each with layer normalisation and a leaky ReLU (slope 0.2)."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator, deviation: float = 0.0) -> None:
        super().__init__()
        self.first = Conv(inputs, outputs, 3, generator, False, deviation)
        self.first_norm = LayerNorm(outputs)
        self.second = Conv(outputs, outputs, 3, generator, False, deviation)
        self.second_norm = LayerNorm(outputs)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        x = F.leaky_relu(self.first_norm(self.first(x)), SLOPE)
        return F.leaky_relu(self.second_norm(self.second(x)), SLOPE)


def label_pyramid(x: Float[Tensor, "b c h w"], levels: int) -> list[Tensor]:
    """Fine to coarse by area averaging (soft one-hot labels), given back coarse to fine."""
    pyramid = [x]
    for _ in range(levels - 1):
        pyramid.append(F.avg_pool2d(pyramid[-1], 2))
    return pyramid[::-1]


def noise_pyramid(z: Sequence[Float[Tensor, "b c h w"]], levels: int) -> list[Tensor]:
    """Coarse to fine: the maps z, each twice as large as the one before, are the last ones as they are; the first of
    them, every second pixel taken, serves the coarser levels: the deviation is the same at each level (averaging would
    halve it)."""
    below = levels - len(z)
    return [*(z[0][:, :, :: 1 << k, :: 1 << k] for k in range(below, 0, -1)), *z]


class Generator(nn.Module):
    """Cascaded refinement network (Chen & Koltun, ICCV 2017) with noise channels (Li et al., ICCV 2019).

    Module k works at height 4 x 2^k: its input is the features so far, enlarged twice (bilinear, corners aligned), the
    condition and the noise at that size. Output: 1 x 1 convolution, linear, in units where [-1, 1] is black to white.
    The last `heads` modules have one each (CHIMLE, Peng, Moazeni, Li, NeurIPS 2022); ordinarily the last one alone.
    """

    def __init__(
        self, condition: int, noise: int, widths: Sequence[int], generator: torch.Generator, heads: int = 1
    ) -> None:
        super().__init__()
        before, modules = 0, []
        for width in widths:
            modules.append(Refinement(before + condition + noise, width, generator))
            before = width
        self.levels = nn.ModuleList(modules)
        self.rgb = Conv(before, 3, 1, generator, True)
        self.rgb_before = nn.ModuleList(Conv(width, 3, 1, generator, True) for width in widths[-heads:-1])
        self.noise = noise

    @torch.no_grad()
    def open_noise(self, generator: torch.Generator) -> None:
        """Weights of the noise channels ~ N(0, (5 r)^2), r the root mean square of their convolution's other weights:
        how the released code adds noise to a generator that was trained without."""
        for module in self.levels:
            weight: Tensor = module.first.weight  # type: ignore[union-attr, assignment]  # the noise comes last
            scale = 5 * weight[:, : -self.noise].square().mean().sqrt()
            drawn = torch.randn(weight[:, -self.noise :].shape, generator=generator)
            weight[:, -self.noise :] = scale * drawn.to(weight)

    def refine(
        self, features: Tensor | None, labels: Sequence[Tensor], noises: Sequence[Tensor], first: int
    ) -> Float[Tensor, "b c h w"]:
        """The features after the modules from `first` on, one for each of the labels and noises; before them
        `features` (none before module 0)."""
        for module, label, noise in zip(self.levels[first : first + len(labels)], labels, noises, strict=True):
            parts = [label, noise]
            if features is not None:
                enlarged = F.interpolate(features, label.shape[2:], mode="bilinear", align_corners=True)
                parts = [enlarged, label, noise]
            features = module(torch.cat(parts, 1))
        assert features is not None
        return features

    def picture(self, features: Float[Tensor, "b c h w"], head: int = -1) -> Float[Tensor, "b 3 h w"]:
        """Of the features at head number `head`, coarse to fine."""
        out: Tensor = [*self.rgb_before, self.rgb][head](features)
        return out

    def pictures(self, x: Float[Tensor, "b c h w"], z: Sequence[Float[Tensor, "b n h w"]]) -> list[Tensor]:
        """Of each head, coarse to fine; the noise maps as in `noise_pyramid`."""
        labels, noises = label_pyramid(x, len(self.levels)), noise_pyramid(z, len(self.levels))
        first = len(self.levels) - len(self.rgb_before) - 1
        features = self.refine(None, labels[: first + 1], noises[: first + 1], 0)
        found = [self.picture(features, 0)]
        for head in range(1, len(self.rgb_before) + 1):
            at = first + head
            features = self.refine(features, labels[at : at + 1], noises[at : at + 1], at)
            found.append(self.picture(features, head))
        return found

    def forward(self, x: Float[Tensor, "b c h w"], *z: Float[Tensor, "b n h w"]) -> Float[Tensor, "b 3 h w"]:
        """The finest picture."""
        return self.pictures(x, z)[-1]


class NoiseEncoder(nn.Module):
    """Raw noise beside the condition -> noise of as many channels, which takes its place in the generator."""

    def __init__(self, condition: int, noise: int, generator: torch.Generator, width: int = ENCODER_WIDTH) -> None:
        super().__init__()
        self.condition = condition
        self.refine = Refinement(condition + noise, width, generator, ENCODER_DEVIATION)
        self.out = Conv(width, noise, 1, generator, True, ENCODER_DEVIATION)

    def forward(self, x: Float[Tensor, "b c h w"], z: Float[Tensor, "b n h w"]) -> Float[Tensor, "b n h w"]:
        out: Tensor = self.out(self.refine(torch.cat([x, z], 1)))
        return out
