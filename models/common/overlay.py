"""Pictures of attention: light where the network looked."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def overlay(image: Float[Tensor, "b c y x"], weights: Float[Tensor, "b h w"]) -> Float[Tensor, "b c y x"]:
    """The image in [-1, 1], at full brightness where the largest weight lies and dark where there is none."""
    light = weights / weights.flatten(1).amax(1)[:, None, None].clamp(min=1e-12)
    light = F.interpolate(light[:, None], image.shape[2:], mode="bilinear", align_corners=False)
    return (image + 1) * (0.15 + 0.85 * light) - 1


def word_bars(
    weights: Float[Tensor, "b t"], lengths: Int[Tensor, " b"], like: Float[Tensor, "b c y x"]
) -> Float[Tensor, "b c y x"]:
    """A bar a word, from left to right, as high as its weight; of the size of `like`."""
    height, width = like.shape[2:]
    out = torch.full_like(like, -1.0)
    for row, (weight, length) in enumerate(zip(weights, lengths.tolist(), strict=True)):
        for word in range(length):
            left, right = word * width // length, max(word * width // length + 1, (word + 1) * width // length - 1)
            top = height - round(float(weight[word]) * height)
            out[row, :, top:, left:right] = 0.8
    return out
