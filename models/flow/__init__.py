"""Conditional flow matching: a modern yardstick for the methods from 2016 to 2021.

Lipman, Chen, Ben-Hamu, Nickel, Le, "Flow Matching for Generative Modeling". https://arxiv.org/abs/2210.02747
Liu, Gong, Liu, "Flow Straight and Fast". https://arxiv.org/abs/2209.03003 (both ICLR 2023)

A network learns the velocity of straight paths from Gaussian noise to the target, seeing the input beside the picture;
a solver follows it. One squared loss, no discriminator, no encoder.

Different from both: a small U-Net that also sees the input; it guesses the target, at times near a third (Li and He,
https://arxiv.org/abs/2511.13720); no second straightening (Liu et al.'s reflow); Lipman et al.'s sigma_min is 0.
"""

from torch import nn

from models.family import ArtifactSpec, Facts, FieldSpec
from models.flow.recipe import PRESETS, Config
from models.flow.training import Flow, check
from models.group import Group

SUMMARY = "many outputs from paired pictures by flow matching; the modern yardstick"
"""What the family is for, in a line."""


def fields(recipe: Config) -> dict[str, FieldSpec]:
    """The fields that it is trained on."""
    return {"input": FieldSpec("image"), "target": FieldSpec("image")}


def artifacts(recipe: Config) -> dict[str, ArtifactSpec]:
    """The artifacts of the training set that it uses: none."""
    return {}


def build(recipe: Config, group: Group, perceptual: nn.Module | None = None, facts: Facts | None = None) -> Flow:
    """Fresh weights from `recipe.seed`; `perceptual` is not used. Raises ValueError: sizes that do not fit together."""
    return Flow(recipe, group)


__all__ = ["PRESETS", "SUMMARY", "Config", "Flow", "artifacts", "build", "check", "fields"]
