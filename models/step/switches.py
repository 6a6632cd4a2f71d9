"""The loss switches of the released code, all off in the published runs: further terms of the stages with G. A
variational code and its divergence act where E is trained alone, too.

The released code names them; what each computes here is our reading of the name. Other pictures than the
reconstruction G(x, z), z = E(y), enter:

- swapped: G(x, z'), z' the code of the pair's other sample (2i and 2i + 1 are a pair);
- random: G(x, e), e ~ N(0, I);
- cycle: G(x, E(s')), s' the pair's other swapped picture, which has this sample's own code: it should be y again.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.common.layers import Live
from models.common.perceptual import Perceptual
from models.step.recipe import Config


class Pictures(NamedTuple):
    """Further pictures; None where no switch needs them."""

    swapped: Tensor | None
    random: Tensor | None
    cycle: Tensor | None
    noise: Tensor | None
    """The codes of `random`."""


def further_pictures(
    r: Config, generator: nn.Module, encoder: nn.Module, x: Tensor, z: Float[Tensor, "b d"], live: Live
) -> Pictures:
    """What the switches that are on need."""
    swapped = random = cycle = noise = None
    if r.swapped_gan_weight or r.cycle_weight or r.cycle_gan_weight:
        swapped = generator(x, other(z))
    if swapped is not None and (r.cycle_weight or r.cycle_gan_weight):
        cycle = generator(x, encoder(other(swapped)))
    if r.random_gan_weight or r.random_code_weight:
        noise = live.rows((len(x), r.code)).to(z)
        random = generator(x, noise)
    return Pictures(swapped, random, cycle, noise)


def other(rows: Tensor) -> Tensor:
    """Rows 2i and 2i + 1 change places."""
    pairs = rows.reshape(-1, 2, *rows.shape[1:])
    return pairs.flip(1).reshape(rows.shape)


def judged(r: Config, made: Pictures) -> dict[str, tuple[Tensor, float]]:
    """Name -> (picture, weight), of those that D judges too."""
    given = {
        "swapped": (made.swapped, r.swapped_gan_weight),
        "random": (made.random, r.random_gan_weight),
        "cycle": (made.cycle, r.cycle_gan_weight),
    }
    return {name: (picture, weight) for name, (picture, weight) in given.items() if picture is not None and weight}


def further_terms(
    r: Config,
    encoder: nn.Module,
    perceptual: Perceptual,
    made: Pictures,
    fake: Tensor,
    y: Tensor,
    z: Tensor,
    moments: tuple[Tensor, Tensor],
) -> dict[str, Tensor]:
    """Name -> weighted term of G (and of E, where it is trained), without those of D."""
    found = {}
    if r.pixel_weight:
        found["pixel"] = r.pixel_weight * (fake - y).abs().mean()
    if r.kl_weight:
        found["kl"] = r.kl_weight * kl(*moments)
    if r.code_recon_weight:
        found["code_recon"] = r.code_recon_weight * (encoder(fake) - z.detach()).abs().mean()
    if r.random_code_weight:
        assert made.random is not None and made.noise is not None
        found["random_code"] = r.random_code_weight * (encoder(made.random) - made.noise).abs().mean()
    if r.cycle_weight:
        assert made.cycle is not None
        found["cycle"] = r.cycle_weight * perceptual(made.cycle, y)
    return found


def kl(mean: Float[Tensor, "b d"], logvar: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """KL(N(mean, exp(logvar)) || N(0, I)), mean over the batch."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1).mean()


def swaps_codes(r: Config) -> bool:
    """Whether any picture beside the reconstruction is made: the stream then keeps pairs together."""
    return any((r.swapped_gan_weight, r.cycle_weight, r.cycle_gan_weight))


def training_code(
    r: Config, mean: Float[Tensor, "b d"], logvar: Float[Tensor, "b d"], live: Live
) -> Float[Tensor, "b d"]:
    """z while E or G is trained: mean + exp(logvar / 2); if E is variational mean + exp(logvar / 2) e, e ~ N(0, I)."""
    spread = torch.exp(logvar / 2)
    if r.vae:
        spread = spread * live.rows((len(mean), r.code)).to(mean)
    return mean + spread
