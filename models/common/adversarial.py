"""Adversarial losses as pure functions of the discriminator's outputs.

Arguments are one tensor of logits of any shape per scale of the discriminator. Each scale counts by its mean, and the
scales are summed: one picture's loss does not depend on the size of its maps or of its batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from models.family import Sign

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


def cross_entropy(logits: Sequence[Tensor], target: float) -> Tensor:
    """sum over the scales of mean(-target log p - (1 - target) log(1 - p)), p = sigmoid(D_s)."""
    return torch.stack(
        [F.binary_cross_entropy_with_logits(scale, torch.full_like(scale, target)) for scale in logits]
    ).sum()


def discriminator_cross_entropy(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """-log D(real) - log(1 - D(fake)) (Goodfellow et al. 2014, equation 1, negated)."""
    return cross_entropy(real, REAL) + cross_entropy(fake, FAKE)


def generator_cross_entropy(fake: Sequence[Tensor]) -> Tensor:
    """-log D(fake): the non-saturating form (Goodfellow et al. 2014, section 3)."""
    return cross_entropy(fake, REAL)


def discriminator_hinge(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """mean(max(0, 1 - D(real))) + mean(max(0, 1 + D(fake))) (Lim & Ye 2017; Miyato et al. 2018, equation 16)."""
    return torch.stack([F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]).sum()


def generator_hinge(fake: Sequence[Tensor]) -> Tensor:
    """-mean(D(fake)) (Miyato et al. 2018, equation 17)."""
    return -torch.stack([scale.mean() for scale in fake]).sum()


@dataclass(frozen=True)
class Game:
    """What the two players minimise."""

    discriminator: Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
    """`discriminator(real logits, fake logits)`."""
    generator: Callable[[Sequence[Tensor]], Tensor]
    """`generator(fake logits)`."""
    middle: float
    """The logit between fake and real."""


GAMES = {
    "cgan": Game(discriminator_cross_entropy, generator_cross_entropy, 0.0),
    "lsgan": Game(discriminator_least_squares, generator_least_squares, 0.5),
    "hinge": Game(discriminator_hinge, generator_hinge, 0.0),
}


def feature_matching(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Float[Tensor, ""]:
    """L1 means of the differences of the discriminator's activations, summed over each scale's layers but the last (the
    logits), averaged over the scales, in the logits' precision. No gradient flows to the real side.

    pix2pixHD (Wang et al., CVPR 2018), equation 4; there and in equation 5 the scales are summed, in its code averaged.

    Args:
        real, fake: scale -> its layers' activations, the logits last.
    """
    terms = [
        (r.detach() - f).abs().mean(dtype=ours[-1].dtype)
        for ours, theirs in zip(real, fake, strict=True)
        for r, f in zip(ours[:-1], theirs[:-1], strict=True)
    ]
    return torch.stack(terms).sum() / len(real)


def balance(real: Sequence[Tensor], fake: Sequence[Tensor], middle: float) -> Float[Tensor, ""]:
    """Share of logits that the discriminator gets right, all scales alike. Near 1 for long, it has won, and the
    generator has little to learn from; at 0.5 it guesses.

    Args:
        middle: the logit between fake and real: 0.5 for least squares, 0 otherwise.
    """
    right = [(r > middle).double().mean() + (f < middle).double().mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(right).mean() / 2


def spread(made: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]) -> float:
    """How much the pictures made of different inputs differ (mean L1 of neighbours in the batch), as a share of how
    much their truths do. 0: the generator has collapsed. At least two pictures."""
    apart = [float((x - x.roll(1, 0)).abs().mean()) for x in (made, truth)]
    return apart[0] / max(apart[1], 1e-12)


WON = Sign(
    "discriminator_right",
    "the discriminator has won: it tells nearly every patch, and the generator learns little from it. Give the other "
    "losses more weight, D fewer layers or channels, or --augment more",
    above=0.99,
)
COLLAPSED = Sign(
    "held_out/spread",
    "the generator has collapsed: its pictures of different inputs are nearly alike. Begin again from an earlier "
    "checkpoint with a lower --rate, or with less weight on the adversarial loss",
    below=0.05,
)
IGNORED = Sign(
    "held_out/diversity",
    "the samples of an input differ by less than half a grey level of 255: the generator ignores its code. Give the "
    "terms that read the code back more weight",
    below=1 / 255,
)
"""Early signs (`models.family.Sign`) of these games."""
