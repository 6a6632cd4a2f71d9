"""BicycleGAN's own losses, as pure functions."""

import torch
from jaxtyping import Float
from torch import Tensor


def divergence(mean: Float[Tensor, "b d"], logvar: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """-1/2 SUM over pictures and entries of (1 + log var - mean^2 - var): the Kullback-Leibler divergence from N(0, I),
    summed over the batch (equation 6; the released code does not divide by its size)."""
    return -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum()


def encoded(
    mean: Float[Tensor, "b d"], logvar: Float[Tensor, "b d"], noise: Float[Tensor, "b d"]
) -> Float[Tensor, "b d"]:
    """A sample of N(mean, var): mean + exp(log var / 2) * noise."""
    return mean + torch.exp(logvar / 2) * noise
