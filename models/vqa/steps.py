"""One optimiser step, as the recipe says: rate, clipping, RMSProp or SGD."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from models.group import Group
from models.vqa.recipe import Config


def optimiser(recipe: Config, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Fresh; its rate is set at each step."""
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=0.0, momentum=0.9, weight_decay=recipe.weight_decay)
    return torch.optim.RMSprop(parameters, lr=0.0, alpha=recipe.smoothing, weight_decay=recipe.weight_decay)


def rate(recipe: Config, seen: int) -> float:
    """The learning rate after `seen` questions."""
    value = recipe.rate
    if recipe.halve_every:
        value *= 0.5 ** (seen / recipe.halve_every)
    return value * 0.1 if recipe.drop_at and seen >= recipe.drop_at else value


def step(
    recipe: Config, group: Group, net: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], seen: int
) -> None:
    """Average the gradients over the workers, clip them, step, clear them."""
    group.average(parameters)
    if recipe.clip_value:
        nn.utils.clip_grad_value_(parameters, recipe.clip_value)
    if recipe.clip_norm:
        nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
    net.param_groups[0]["lr"] = rate(recipe, seen)
    net.step()
    net.zero_grad()
