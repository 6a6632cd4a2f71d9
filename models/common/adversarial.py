"""Adversarial losses as pure functions of the discriminator's outputs."""

from collections.abc import Sequence

import torch
from torch import Tensor

REAL, FAKE = 1.0, 0.0


def least_squares(logits: Sequence[Tensor], target: float) -> Tensor:
    """sum over the scales of mean((D_s - target)^2) (LSGAN: Mao et al. 2017, equation 9 without the halves).

    Args:
        logits: one tensor of any shape per scale of the discriminator.
    """
    return torch.stack([(scale - target).square().mean() for scale in logits]).sum()


def discriminator_least_squares(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """What the discriminator minimises: real towards 1, fake towards 0."""
    return least_squares(real, REAL) + least_squares(fake, FAKE)


def generator_least_squares(fake: Sequence[Tensor]) -> Tensor:
    """What the generator minimises: its fakes taken for real, towards 1."""
    return least_squares(fake, REAL)
