"""Pixels to tensors and back: cutting to a frame, float32 in [-1, 1], 8-bit pictures, colours for label ids."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.data import decode

Array = np.ndarray


def fit(image: Array, frame: tuple[int, int], scale: float, place: tuple[float, float], nearest: bool) -> Array:
    """Cut a piece of `frame` (height, width) out of `image` (uint8 `H W 3`, ids `H W`): resized first, its aspect kept,
    to cover `scale` x `frame` where scale != 1, or to cover `frame` where it is too small.

    `place`: where the piece lies, each in [0, 1): (0.5, 0.5) is the centre.
    """
    height, width = image.shape[:2]
    ratio = max(round(frame[0] * scale) / height, round(frame[1] * scale) / width)
    if scale == 1.0:
        ratio = max(1.0, ratio)
    if ratio != 1.0:
        height, width = max(frame[0], round(height * ratio)), max(frame[1], round(width * ratio))
        image = decode.stretch(image, height, width, nearest)
    top, left = int(place[0] * (height - frame[0] + 1)), int(place[1] * (width - frame[1] + 1))
    return image[top : top + frame[0], left : left + frame[1]]


def to_tensor(images: Sequence[Array]) -> torch.Tensor:
    """uint8 `H W 3` each -> float32 `B 3 H W` in [-1, 1]; label maps (integer `H W` each) -> int64 `B H W`."""
    if images[0].ndim == 2:
        return torch.from_numpy(np.stack(images).astype(np.int64))
    return pictures_to_tensor(images)


def pictures_to_tensor(images: Sequence[np.ndarray]) -> Float[Tensor, "B 3 H W"]:
    """uint8 H W 3 images of one size -> float32 in [-1, 1]."""
    # NumPy, not torch: on a thread that prepares batches, torch would start OpenMP threads beside the training's.
    out = np.empty((len(images), 3, *images[0].shape[:2]), np.float32)
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
