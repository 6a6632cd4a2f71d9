"""Weights of MUNIT's released code (`gen_*.pt` and `dis_*.pt`: a state dict for each domain, "a" and "b") into the
family. (Licence of those weights: CC BY-NC-SA 4.0.)"""

from collections.abc import Mapping

from models.common import released
from models.common.released import State, Table
from models.munit.recipe import Config
from models.munit.training import MUNIT

FILES = ("gen", "dis")
"""The released files, the generators' first."""


def load(family: MUNIT, states: Mapping[str, Mapping[str, State]]) -> None:
    """Fill the networks from `states` ("gen", "dis"; one may be left out), each with the domains "a" and "b".

    Raises:
        ValueError: the names or shapes are of another network.
    """
    for file, net, table in (("gen", "generator", generator), ("dis", "discriminator", discriminator)):
        for domain in "ab" if file in states else "":
            if domain not in states[file]:
                raise ValueError(f"{file} has no domain {domain!r}: is it MUNIT's?")
            released.load(getattr(family, f"{net}_{domain}"), states[file][domain], table(family.recipe))


def generator(recipe: Config) -> Table:
    """One domain's auto-encoder."""
    r = recipe
    table = {f"style.convs.{i}": f"enc_style.model.{i}.conv" for i in range(r.style_downs + 1)}
    table["style.code"] = f"enc_style.model.{r.style_downs + 2}"
    table |= {f"content.convs.{i}": f"enc_content.model.{i}.conv" for i in range(r.downs + 1)}
    for i in range(r.blocks):
        for place, name in enumerate(("first", "second")):
            there = f"model.{i}.model.{place}.conv"
            table[f"content.blocks.{i}.{name}"] = f"enc_content.model.{r.downs + 1}.{there}"
            table[f"decoder.blocks.{i}.{name}"] = f"dec.model.0.{there}"
    for i in range(r.downs):
        table[f"decoder.ups.{i}"] = f"dec.model.{2 + 2 * i}.conv"
        table[f"decoder.norms.{i}"] = f"dec.model.{2 + 2 * i}.norm"
    table |= {f"decoder.mlp.{i}": f"mlp.model.{i}.fc" for i in range(3)}
    return {**table, "decoder.head": f"dec.model.{1 + 2 * r.downs}.conv"}


def discriminator(recipe: Config) -> Table:
    """One domain's discriminator, finest scale first."""
    table: Table = {}
    for scale in range(recipe.discriminator_scales):
        own, there = f"critics.{scale}", f"cnns.{scale}"
        layers = recipe.discriminator_layers
        table |= {f"{own}.convs.{i}": f"{there}.{i}.conv" for i in range(layers)}
        table[f"{own}.head"] = f"{there}.{layers}"
    return table
