"""Pixels to tensors and back: cutting to a frame, float32 in [-1, 1], 8-bit pictures, colours for label ids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.data import decode

Array = np.ndarray


Mode = Literal["cover", "stretch", "pad"]


def fit(
    image: Array,
    frame: tuple[int, int],
    scale: float,
    place: tuple[float, float],
    nearest: bool,
    mode: Mode = "cover",
) -> Array:
    """Cut a piece of `frame` (height, width) out of `image` (uint8 `H W 3`, ids `H W`), resized first.

    `cover`: its aspect is kept, and it covers `scale` x `frame` where scale != 1, or `frame` where it is too small.
    `stretch`: its sides become those of `scale` x `frame`. `pad`: its aspect is kept, it is made to lie within
    `scale` x `frame`, and the border is mirrored.

    `place`: where the piece lies, each in [0, 1): (0.5, 0.5) is the centre.
    """
    height, width = image.shape[:2]
    if mode != "cover":
        return _cut(_stretched(image, frame, scale, nearest, mode), frame, place)
    ratio = max(round(frame[0] * scale) / height, round(frame[1] * scale) / width)
    if scale == 1.0:
        ratio = max(1.0, ratio)
    if ratio != 1.0:
        height, width = max(frame[0], round(height * ratio)), max(frame[1], round(width * ratio))
        image = decode.stretch(image, height, width, nearest)
    return _cut(image, frame, place)


def _stretched(image: Array, frame: tuple[int, int], scale: float, nearest: bool, mode: Mode) -> Array:
    """The whole of `image` in scale x frame, at least `frame`."""
    height, width = (max(side, round(side * scale)) for side in frame)
    if mode == "stretch":
        return image if image.shape[:2] == (height, width) else decode.stretch(image, height, width, nearest)
    ratio = min(height / image.shape[0], width / image.shape[1])
    inner = max(1, round(image.shape[0] * ratio)), max(1, round(image.shape[1] * ratio))
    if inner != image.shape[:2]:
        image = decode.stretch(image, *inner, nearest)
    before = (height - inner[0]) // 2, (width - inner[1]) // 2
    border = [(before[0], height - inner[0] - before[0]), (before[1], width - inner[1] - before[1])]
    return np.pad(image, [*border, (0, 0)][: image.ndim], mode="symmetric")


def _cut(image: Array, frame: tuple[int, int], place: tuple[float, float]) -> Array:
    height, width = image.shape[:2]
    top, left = int(place[0] * (height - frame[0] + 1)), int(place[1] * (width - frame[1] + 1))
    return image[top : top + frame[0], left : left + frame[1]]


def to_tensor(images: Sequence[Array]) -> torch.Tensor:
    """uint8 `H W C` each -> float32 `B C H W` in [-1, 1]; label maps (integer `H W` each) -> int64 `B H W`."""
    if images[0].ndim == 2:
        return torch.from_numpy(np.stack(images).astype(np.int64))
    return pictures_to_tensor(images)


def pictures_to_tensor(images: Sequence[np.ndarray]) -> Float[Tensor, "B C H W"]:
    """uint8 H W C images of one size -> float32 in [-1, 1]."""
    # NumPy, not torch: on a thread that prepares batches, torch would start OpenMP threads beside the training's.
    out = np.empty((len(images), images[0].shape[2], *images[0].shape[:2]), np.float32)
    for place, image in zip(out, images, strict=True):
        np.divide(image.transpose(2, 0, 1), np.float32(127.5), out=place)
    out -= np.float32(1)
    return torch.from_numpy(out)


def to_uint8(image: Tensor) -> Array:
    """`C H W` in [-1, 1] (C 3, or 1 repeated to 3) -> uint8 `H W 3`: round(127.5 + 127.5 x), clipped. Label ids
    `H W` -> their colours.

    Raises:
        ValueError: not `C H W`, or a value that is not finite (a picture of NaN would look like a black image).
    """
    if image.ndim == 2 and not image.is_floating_point():
        return coloured(image.cpu().numpy())
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"an image is C H W with 1 or 3 channels, got shape {tuple(image.shape)}")
    x = image.detach().float().cpu()
    if not bool(x.isfinite().all()):
        raise ValueError("the image holds NaN or infinity")
    x = (x * 127.5 + 127.5).round().clamp(0, 255)
    return x.expand(3, -1, -1).permute(1, 2, 0).byte().contiguous().numpy()


def is_blank(image: Array, tolerance: int = 8, share: float = 0.95) -> bool:
    """Whether a picture shows next to nothing: `share` of its pixels within `tolerance` of the median grey level (uint8
    `H W 3`), or of one id (label ids `H W`)."""
    if image.ndim == 2:
        _, counts = np.unique(image, return_counts=True)
        return bool(counts.max() >= share * image.size)
    grey = image.mean(2)
    return bool((np.abs(grey - np.median(grey)) <= tolerance).mean() >= share)


def coloured(ids: Array) -> Array:
    """Label ids `H W` -> uint8 `H W 3`: a colour an id, its hue turned by the golden ratio from one id to the next."""
    turn = 2 * math.pi * (ids[..., None] * 0.6180339887 + np.array([0.0, -1 / 3, 1 / 3]))
    light = 130 + 40 * (ids[..., None] % 3 - 1)  # three lightnesses: neighbours in hue stay apart
    painted: Array = np.clip(light + 90 * np.cos(turn), 0, 255).astype(np.uint8)
    return painted
