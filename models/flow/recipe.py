"""Conditional flow matching: what is trained, and the presets."""

from dataclasses import dataclass
from typing import ClassVar

from models.family import Recipe


@dataclass(frozen=True)
class Config(Recipe):
    """Straight paths from noise to the target, given the input; no paper trains exactly this, so lengths are ours."""

    LENGTHS: ClassVar[tuple[str, ...]] = ("images",)

    widths: tuple[int, ...] = (64, 128, 256, 256)
    """Channels of the U-Net at its full size, half, a quarter, ... Ours."""
    patch: int = 1
    """Side of the squares of pixels that the U-Net sees as one: 2 leaves it a quarter of them. Ours."""
    blocks: int = 2
    """Residual blocks a size. Source: Ho et al. 2020."""
    times: tuple[float, float] = (0.8, 0.8)
    """Mean and deviation of the logit of 1 - t, for the times t that are trained on. Source: Li and He 2025."""
    steps: int = 20
    """Steps of the solver when pictures are drawn. Ours."""
    batch: int = 16
    """Pairs a step. Ours."""
    rate: float = 2e-4
    """Adam's learning rate, constant. Source: Liu et al. 2023, CIFAR-10."""
    clip: float = 0.0
    """Largest norm of the gradient, which is shortened to it: times near 1 have large ones; 0: any. Ours."""
    average_decay: float = 0.999
    """Decay of the weights' average, which draws the pictures. Ours."""
    images: int = 2_000_000
    """Pairs seen. Ours."""
    augment: tuple[float, ...] = (286 / 256,)
    """Scale before the random crop. As pix2pix."""
    flip: float = 0.5
    """Probability of mirroring. As pix2pix."""


PRESETS: dict[str, Config] = {
    "paper": Config(clip=1.0),
    "small": Config(
        size=128, fit="stretch", widths=(64, 88, 112), patch=4, blocks=1, batch=4, rate=1e-3, clip=0.3, images=12000
    ),
    "tiny": Config(size=16, widths=(8, 16), blocks=1, batch=4, images=32, steps=4, clip=1.0, augment=(18 / 16,)),
}
