"""Weights that the papers' authors released, read into the networks here: names and order of channels.

A table says of each layer here what its released name is. Layers without weights (norms without scale, activations,
dropout) take a place in the released numbering all the same.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Table = dict[str, str]
"""Layer here -> layer there; both get `.weight`, `.bias` and so on."""
State = Mapping[str, Tensor]


@torch.no_grad()
def load(net: nn.Module, state: State, table: Table) -> None:
    """Fill `net` from a released state dict.

    Statistics that a norm here does not have (older versions of PyTorch saved them for instance norm too) are left
    aside; anything else that is left over is an error.

    Raises:
        ValueError: weights are missing, left over or of another shape.
    """
    own, used = net.state_dict(), set()
    for name, value in own.items():
        layer, _, kind = name.rpartition(".")
        if kind == "num_batches_tracked":
            continue
        there = f"{table[layer]}.{kind}" if layer in table else f"(no name for {name})"
        if there not in state:
            raise ValueError(f"the released weights lack {there}, which is {name} here: are they of another network?")
        if state[there].shape != value.shape:
            shapes = (tuple(state[there].shape), tuple(value.shape))
            raise ValueError(f"{there} is {shapes[0]}, {name} here {shapes[1]}: is the recipe the released one's?")
        value.copy_(state[there])
        used.add(there)
    aside = ("num_batches_tracked", "running_mean", "running_var")
    if left := [name for name in state if name not in used and name.rpartition(".")[2] not in aside]:
        raise ValueError(f"{len(left)} released weights have no place here, such as {left[0]}")


def unet(levels: int) -> Table:
    """pix2pix's nested blocks (PyTorch code), and BicycleGAN's with the code at the input alone."""
    table: Table = {}
    prefix = "model.model."
    for i in range(levels):
        inner, place = i == levels - 1, levels - 1 - i
        down, up = (0, 3) if i == 0 else (1, 3 if inner else 5)
        table |= {f"downs.{i}": f"{prefix}{down}", f"ups.{place}": f"{prefix}{up}"}
        if 0 < i < levels - 1:
            table[f"down_norms.{i}"] = f"{prefix}2"
        if i:
            table[f"up_norms.{place}"] = f"{prefix}{up + 1}"
        prefix += f"{1 if i == 0 else 3}.model."
    return table


def resnet(downs: int, blocks: int, dropout: bool) -> Table:
    """The residual generator of pix2pix's PyTorch code and of pix2pixHD's, and pix2pixHD's encoder."""
    table = {"first": "model.1", "first_norm": "model.2"}
    for i in range(downs):
        table |= {f"downs.{i}": f"model.{4 + 3 * i}", f"down_norms.{i}": f"model.{5 + 3 * i}"}
    after = 4 + 3 * downs
    for i in range(blocks):
        table |= block(f"blocks.{i}", f"model.{after + i}", dropout)
    after += blocks
    for i in range(downs):
        table |= {f"ups.{i}": f"model.{after + 3 * i}", f"up_norms.{i}": f"model.{after + 1 + 3 * i}"}
    return {**table, "head": f"model.{after + 3 * downs + 1}"}


def block(own: str, there: str, dropout: bool) -> Table:
    """One residual block."""
    second = 6 if dropout else 5
    names = {"first": 1, "first_norm": 2, "second": second, "second_norm": second + 1}
    return {f"{own}.{name}": f"{there}.conv_block.{place}" for name, place in names.items()}


def patch(layers: int, prefix: str = "model") -> Table:
    """The patch discriminator; 0 layers: the PixelGAN, whose prefix is `net`."""
    if layers == 0:
        return {"convs.0": "net.0", "convs.1": "net.2", "norms.1": "net.3", "head": "net.5"}
    table = {"convs.0": f"{prefix}.0", "head": f"{prefix}.{3 * layers + 2}"}
    for i in range(1, layers + 1):
        table |= {f"convs.{i}": f"{prefix}.{3 * i - 1}", f"norms.{i}": f"{prefix}.{3 * i}"}
    return table


def under(prefix: str, table: Table) -> Table:
    """The table of a network that is a part of another."""
    return {f"{prefix}.{own}": there for own, there in table.items()}
