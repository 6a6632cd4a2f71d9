"""Crops of the demo photographs' held-out regions, and how they may look."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.data import decode
from pipeline.data.sources.demo import Demo
from pipeline.data.tensors import to_tensor

SIZE = 64
"""Side of the crops, pixels."""


def held_out(count: int) -> tuple[Tensor, list[str]]:
    """`count` crops of each photograph's validation region, float `N 3 H W` in [-1, 1], and the photographs' names."""
    source = Demo(size=SIZE, crops=4 * count)
    entries = source.samples()["val"]
    images = [decode.pixels(source.read(e.files["target"], "target")) for e in entries]
    return to_tensor(images), [str(e.label) for e in entries]


def standardised_grey(images: Tensor) -> Tensor:
    """Luma (ITU-R BT.601) with mean 0 and deviation 0.5 in each crop, cut to [-1, 1], in all three channels."""
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = (images * weights).sum(1, keepdim=True)
    mean, deviation = grey.mean((2, 3), keepdim=True), grey.std((2, 3), keepdim=True).clamp_min(1e-6)
    return (0.5 * (grey - mean) / deviation).clamp(-1, 1).expand_as(images).contiguous()


def colour_statistics(images: Tensor) -> Tensor:
    """`N 6`: mean and deviation of R, G and B."""
    return torch.cat([images.mean((2, 3)), images.std((2, 3))], 1)
