"""Weights of BicycleGAN's released code (`latest_net_G.pth`, `..._E`, `..._D`, `..._D2`) into the family."""

from collections.abc import Mapping

import torch

from models.bicyclegan.training import BicycleGAN
from models.common import released
from models.common.released import State, Table

FILES = ("G", "E", "D", "D2")
"""The released files, the generator's first."""


def load(family: BicycleGAN, states: Mapping[str, State]) -> None:
    """Fill the networks from `states` ("G", "E", "D", "D2"; some may be left out).

    Raises:
        ValueError: the names or shapes are of another network.
    """
    r = family.recipe
    bilinear = r.upsampling == "bilinear"
    if "G" in states:
        if bilinear:
            raise ValueError("--upsampling bilinear: released generators are transposed ones (upsample basic)")
        table = nested(r.levels) if r.code_in == "all" else released.unet(r.levels)
        released.load(family.generator, states["G"], table)
        swap_skips(family)
    if "E" in states:
        released.load(family.encoder, states["E"], encoder(r.encoder, r.encoder_depth))
    for name, net in (("D", family.discriminator), ("D2", family.discriminator2)):
        if name in states:
            parts = [
                released.under(f"critics.{i}", released.patch(r.discriminator_layers, f"model{i}"))
                for i in range(r.discriminator_scales)
            ]
            released.load(net, states[name], {own: there for part in parts for own, there in part.items()})


def nested(levels: int) -> Table:
    """The U-Net with the code in every layer."""
    table: Table = {}
    prefix = "model."
    for i in range(levels):
        table |= {f"downs.{i}": f"{prefix}down.{1 if i else 0}", f"ups.{levels - 1 - i}": f"{prefix}up.1"}
        prefix += "submodule."
    return table


@torch.no_grad()
def swap_skips(family: BicycleGAN) -> None:
    """The released code joins [decoder, skip], this one [skip, decoder]."""
    for layer in list(family.generator.ups)[1:]:
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        weight.copy_(torch.cat(weight.chunk(2)[::-1]))


def encoder(kind: str, depth: int) -> Table:
    """E_ResNet or E_NLayers."""
    table = {"heads.mean": "fc.0", "heads.logvar": "fcVar.0"}
    if kind == "conv":
        return table | {f"convs.{i}": f"conv.{3 * i - 1 if i else 0}" for i in range(depth)}
    table["first"] = "conv.0"
    for i in range(depth):
        there = f"conv.{i + 1}"
        table |= {
            f"blocks.{i}.first": f"{there}.conv.2",
            f"blocks.{i}.second": f"{there}.conv.5.0",
            f"blocks.{i}.short": f"{there}.shortcut.1",
        }
    return table
