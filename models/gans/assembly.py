"""The networks of a recipe, and what does not fit together."""

from __future__ import annotations

import torch
from torch import nn

from models.common.seeds import seeded
from models.gans.game import Latent
from models.gans.networks import began, dcgan, perceptron, resnet
from models.gans.networks.critic import AutoEncoder, CodeHead, Headed
from models.gans.networks.layers import ACTIVATIONS, Chain, Init, he, lecun, linear
from models.gans.objectives.penalties import GradientPenalty
from models.gans.recipe import Config
from models.gans.rules import Rules, rules
from models.group import Group

RESNET_SIZE = 32


def shape(recipe: Config) -> tuple[int, ...]:
    """Of one sample."""
    return (2,) if recipe.form == "points" else (recipe.channels, recipe.size, recipe.size)


def latent(recipe: Config) -> Latent:
    """What the generator starts from."""
    given = rules(recipe).classes or recipe.conditional
    codes = recipe.codes if recipe.objective == "infogan" else 0
    return Latent(recipe.noise, recipe.noise_kind == "normal", recipe.classes if given else 0, codes)


def generator(recipe: Config, group: Group) -> nn.Module:
    """`B latent` -> samples."""
    r, drawn, inputs = recipe, seeded(recipe.seed, "generator"), latent(recipe).width
    norm = group if r.generator_norm == "batch" else None
    if r.network == "perceptron":
        points = r.form == "points"
        return perceptron.Maker(
            inputs, r.generator_widths, shape(r), drawn, r.generator_activation, norm, bounded=not points
        )
    if r.network == "dcgan":
        return dcgan.Maker(inputs, r.size, r.channels, r.width, drawn, norm, r.hidden)
    if r.network == "resnet":
        return resnet.Maker(inputs, r.channels, r.width, drawn, group)
    return began.Decoder(inputs, r.size, r.channels, r.width, drawn)


def critic(recipe: Config, played: Rules, group: Group) -> nn.Module:
    """With the heads that the rules look at."""
    drawn = seeded(recipe.seed, "critic")
    if played.energy_error:
        return _auto_encoder(recipe, played, drawn)
    trunk, width, init = _trunk(recipe, drawn, group)
    outputs = {"score": 1, "logits": played.logits}
    heads: dict[str, nn.Module] = {
        name: linear(width, outputs[name], drawn, init) for name in sorted(played.heads & outputs.keys())
    }
    if "q" in played.heads:
        heads["q"] = CodeHead(width, recipe.classes + latent(recipe).codes, drawn, group, init)
    return Headed(trunk, heads)


def _trunk(recipe: Config, drawn: torch.Generator, group: Group) -> tuple[nn.Module, int, Init]:
    r, classes = recipe, recipe.classes if recipe.conditional else 0
    if r.network == "perceptron":
        noise = r.input_noise, r.hidden_noise
        inputs = torch.Size(shape(r)).numel()
        made = perceptron.Trunk(inputs, r.critic_widths, drawn, r.critic_activation, he, noise, classes)
        return made, r.critic_widths[-1], lecun
    if r.network == "dcgan":
        trunk = dcgan.Trunk(r.size, r.channels, r.width, drawn, r.critic_norm, group, r.hidden, r.dropout, classes)
        return trunk, trunk.width, dcgan.INIT
    return resnet.Trunk(r.channels, r.width, drawn), r.width, lecun


def _auto_encoder(recipe: Config, played: Rules, drawn: torch.Generator) -> nn.Module:
    r = recipe
    if r.network == "began":
        encoder = began.encoder(r.noise, r.size, r.channels, r.width, drawn)
        return AutoEncoder(encoder, began.Decoder(r.noise, r.size, r.channels, r.width, drawn), played.energy_error)
    inputs = torch.Size(shape(r)).numel()
    hidden = perceptron.layers(inputs, r.critic_widths[:-1], r.critic_activation, drawn)
    before = r.critic_widths[-2] if len(r.critic_widths) > 1 else inputs
    code = linear(before, r.critic_widths[-1], drawn, lecun)
    decoder = nn.Sequential(
        ACTIVATIONS[r.critic_activation](), linear(r.critic_widths[-1], inputs, drawn), nn.Unflatten(1, shape(r))
    )
    return AutoEncoder(Chain([nn.Flatten(), *hidden, code]), decoder, played.energy_error)


def check(recipe: Config, perceptual: nn.Module | None = None) -> None:
    """Refuse what does not fit together, before anything is built.

    Raises:
        ValueError: naming the option, its value and what to do.
    """
    r = recipe
    played = rules(r)
    if r.aspect != 1:
        raise ValueError(f"--aspect {r.aspect}: the networks make squares, give 1")
    if r.noise < 1 or r.critic_steps < 1:
        raise ValueError(f"--noise {r.noise}, --critic-steps {r.critic_steps}: give at least 1")
    if r.channels not in (1, 3):
        raise ValueError(f"--channels {r.channels}: 1 (grey) or 3 (RGB)")
    for option in ("generator_activation", "critic_activation"):
        if getattr(r, option) not in ACTIVATIONS:
            name = option.replace("_", "-")
            raise ValueError(f"--{name} {getattr(r, option)}: choose one of {', '.join(ACTIVATIONS)}")
    _check_network(r, played)
    penalised = any(isinstance(p, GradientPenalty) for p in played.penalties)
    if penalised and r.network == "dcgan" and r.critic_norm == "batch":
        raise ValueError(
            f"--critic-norm batch: {r.objective} penalises each sample's own gradient, which batch norm mixes; "
            "give layer or none"
        )
    if r.classes < 2 and (played.logits or r.conditional):
        raise ValueError(f"--classes {r.classes}: {r.objective} needs at least 2")


def _check_network(r: Config, played: Rules) -> None:
    option = f"--network {r.network}"
    if r.form == "points" and r.network != "perceptron":
        raise ValueError(f"{option}: points need --network perceptron")
    if r.network == "dcgan":
        dcgan.base(r.size)
    if r.network == "began":
        began.base(r.size)
    if r.network == "resnet" and r.size != RESNET_SIZE:
        raise ValueError(f"--size {r.size}: the ResNet is for {RESNET_SIZE}")
    if bool(played.energy_error) != (r.network == "began") and r.network != "perceptron":
        wants = "perceptron or began" if played.energy_error else "perceptron, dcgan or resnet"
        raise ValueError(f"{option}: objective {r.objective} needs {wants}")
    if r.conditional and (played.energy_error or r.network == "resnet"):
        raise ValueError(f"--conditional: not with {option} and objective {r.objective}")
    if r.network == "perceptron" and not (r.generator_widths and r.critic_widths):
        raise ValueError("--generator-widths, --critic-widths: give at least one layer each")
