"""Weights of pix2pix's PyTorch code (`latest_net_G.pth`, `latest_net_D.pth`) into the family."""

from collections.abc import Mapping

from models.common import released
from models.common.released import State
from models.pix2pix.training import Pix2Pix

FILES = ("G", "D")
"""The released files, the generator's first."""


def load(family: Pix2Pix, states: Mapping[str, State]) -> None:
    """Fill G and D from `states` ("G", "D"; one may be left out). The recipe is the released network's: preset
    `pytorch` for the U-Net, `resnet` for the other.

    Raises:
        ValueError: the names or shapes are of another network.
    """
    r = family.recipe
    generator = released.unet(r.levels) if r.generator == "unet" else released.resnet(2, r.blocks, r.block_dropout > 0)
    if "G" in states:
        released.load(family.generator, states["G"], generator)
    if "D" in states:
        released.load(family.discriminator, states["D"], released.patch(r.discriminator_layers))
