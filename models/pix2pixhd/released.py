"""Weights of pix2pixHD's released code (`latest_net_G.pth`, `..._D`, `..._E`) into the family."""

from collections.abc import Mapping

from models.common import released
from models.common.released import State, Table
from models.pix2pixhd.recipe import Config
from models.pix2pixhd.training import Pix2PixHD

FILES = ("G", "E", "D")
"""The released files, the generator's first."""


def load(family: Pix2PixHD, states: Mapping[str, State]) -> None:
    """Fill the networks from `states` ("G", "D", "E"; some may be left out). With enhancers the global network's last
    convolution, which the released G lacks, stays as it is.

    Raises:
        ValueError: the names or shapes are of another network.
    """
    r, net = family.recipe, family.generator
    if "G" in states:
        state = dict(states["G"])
        if r.enhancers:
            own = net.coarse.head.state_dict()
            state |= {f"coarse.head.{name}": value for name, value in own.items()}
        released.load(net, state, generator(r))
    if "D" in states:
        released.load(family.discriminator, states["D"], discriminator(r))
    if "E" in states:
        released.load(family.encoder, states["E"], released.resnet(r.encoder_downs, 0, False))


def generator(recipe: Config) -> Table:
    """G: the global network alone, or a local one around it."""
    r = recipe
    table = released.under("coarse", released.resnet(r.downs, r.blocks, False))
    if not r.enhancers:
        return table
    table["coarse.head"] = "coarse.head"
    for i in range(r.enhancers):
        own, front, back = f"enhancers.{i}", f"model{i + 1}_1", f"model{i + 1}_2"
        table |= {f"{own}.first": f"{front}.1", f"{own}.down": f"{front}.4"}
        for j in range(r.enhancer_blocks):
            table |= released.block(f"{own}.blocks.{j}", f"{back}.{j}", False)
        table[f"{own}.up"] = f"{back}.{r.enhancer_blocks}"
    return {**table, "heads.0": f"model{r.enhancers}_2.{r.enhancer_blocks + 4}"}


def discriminator(recipe: Config) -> Table:
    """D; the released code counts its scales from the coarsest, so that a finer one keeps the others' names."""
    table: Table = {}
    scales = recipe.discriminator_scales + recipe.enhancers
    for i in range(scales):
        own, there = f"critics.{i}", f"scale{scales - 1 - i}"
        layers = recipe.discriminator_layers
        table |= {f"{own}.convs.{j}": f"{there}_layer{j}.0" for j in range(layers + 1)}
        table[f"{own}.head"] = f"{there}_layer{layers + 1}.0"
    return table
