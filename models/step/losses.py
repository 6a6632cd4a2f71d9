"""StEP's own losses, as pure functions."""

import torch
from jaxtyping import Float
from torch import Tensor

from models.common.adversarial import discriminator_least_squares, generator_least_squares

GAN_HALF = 0.5
"""The released code averages each GAN term with a constant 0 at the head of its list, and so halves it."""


def triplet_loss(
    anchor: Float[Tensor, "b d"], positive: Float[Tensor, "b d"], negative: Float[Tensor, "b d"], margin: float
) -> Float[Tensor, ""]:
    """(1/B) sum max(|z_a - z_p|^2 - |z_a - z_n|^2 + margin, 0): squared distances, not rooted."""
    near = (anchor - positive).square().sum(1)
    far = (anchor - negative).square().sum(1)
    return torch.relu(near - far + margin).mean()


def code_penalty(*codes: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """sum over the arguments of mean(z^2), the mean over batch and dimensions."""
    return torch.stack([z.square().mean() for z in codes]).sum()


def discriminator_loss(real: list[Tensor], fake: list[Tensor]) -> Float[Tensor, ""]:
    """0.5 * (sum_s mean (D_s(real) - 1)^2 + sum_s mean D_s(fake)^2)."""
    return GAN_HALF * discriminator_least_squares(real, fake)


def generator_loss(fake: list[Tensor]) -> Float[Tensor, ""]:
    """0.5 * sum_s mean (D_s(fake) - 1)^2."""
    return GAN_HALF * generator_least_squares(fake)


def mapper_loss(mapped: Float[Tensor, "b d"], code: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """1/2 * SUM over batch and dimensions of (M(e_i) - z_i)^2."""
    return 0.5 * (mapped - code).square().sum()


def linear_decay(images: int, constant: int, total: int, stretch: float) -> float:
    """Factor of the learning rate: 1 until `constant` images, then 1 - (k - constant) / (stretch (total - constant)).

    With the paper's numbers (150k of 250k, stretch 1.1) that is 1 - (k - 150) / 110, which ends at 0.09, never 0.
    """
    if images <= constant:
        return 1.0
    return 1.0 - (min(images, total) - constant) / (stretch * (total - constant))
