"""The recipes of the study on MNIST: networks that train within minutes on one core, and steps for each objective."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import models.gans
from models.gans.recipe import PRESETS

CONVOLUTIONS: dict[str, Any] = {"width": 32, "noise": 64}
PERCEPTRONS: dict[str, Any] = {
    "network": "perceptron",
    "generator_widths": (400, 400),
    "critic_widths": (400, 200),
    "noise": 64,
}
ENERGIES: dict[str, Any] = {**PERCEPTRONS, "critic_activation": "relu", "critic_widths": (400, 64)}
BEGAN: dict[str, Any] = {**ENERGIES, "objective": "began", "k_rate": 1e-2}
FEW_LABELS: dict[str, Any] = {
    "network": "perceptron",
    "generator_widths": (500, 500),
    "critic_widths": (1000, 500, 250, 250, 250),
    "noise_kind": "uniform",
    "batch": 100,
    "generator_batch": 100,
    "input_noise": 0.3,
    "hidden_noise": 0.5,
}
CRITIC_FIRST: dict[str, Any] = {"critic_steps": 5, "critic_norm": "none"}
SETTINGS: dict[str, tuple[int, dict[str, Any]]] = {
    "minimax": (1500, CONVOLUTIONS),
    "nonsaturating": (1500, CONVOLUTIONS),
    "lsgan": (1500, CONVOLUTIONS),
    "lsgan-conditional": (1500, {**CONVOLUTIONS, "objective": "lsgan", "conditional": True}),
    "wgan": (400, {**CONVOLUTIONS, **CRITIC_FIRST, "optimiser": "rmsprop", "rate": 2e-4, "generator_rate": 2e-4}),
    "wgan-gp": (400, {**CONVOLUTIONS, **CRITIC_FIRST, "beta2": 0.9}),
    "dragan": (1000, {**CONVOLUTIONS, "critic_norm": "none"}),
    "ebgan": (1500, ENERGIES),
    "ebgan-pt": (1500, ENERGIES),
    "began-0.3": (1500, {**BEGAN, "gamma": 0.3}),
    "began": (1500, BEGAN),
    "began-0.7": (1500, {**BEGAN, "gamma": 0.7}),
    "catgan": (1200, {**FEW_LABELS, "label_weight": 0.0}),
    "sgan": (1500, CONVOLUTIONS),
    "salimans": (1200, FEW_LABELS),
    "acgan": (1500, CONVOLUTIONS),
    "infogan": (1500, {**CONVOLUTIONS, "codes": 2}),
    "fgan-kl": (1500, PERCEPTRONS),
    "fgan-reverse-kl-heuristic": (1500, PERCEPTRONS),
    "fgan-jensen-shannon": (1500, PERCEPTRONS),
    "fgan-pearson": (1500, PERCEPTRONS),
}
"""Row -> generator steps, and what differs from the family's defaults. Without an objective there, the row's name is
one."""
LABELS: dict[str, tuple[int, dict[str, Any]]] = {
    "catgan": (1200, FEW_LABELS),
    "sgan": (1500, CONVOLUTIONS),
    "salimans": (1200, {**FEW_LABELS, "rate": 1e-3, "generator_rate": 1e-3}),
}
"""The same, with ten labels of each class."""


def recipe_of(objective: str, steps: int, changes: dict[str, Any], seed: int) -> models.gans.Config:
    """The recipe of a run; `changes` may name an objective of their own."""
    recipe = replace(PRESETS["nonsaturating"], **{"objective": objective, "seed": seed, **changes})
    return replace(recipe, images=steps * recipe.batch)
