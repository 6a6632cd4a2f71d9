"""Conditional IMLE: Diverse Image Synthesis from Semantic Layouts via Conditional IMLE.

Li, Zhang, Malik, ICCV 2019. https://arxiv.org/abs/1811.12373

For each input several outputs are generated from random noise; the one nearest to the observed output is pulled towards
it, so that no observed output is left without a sample near it (no mode is dropped), and the others stay free. Every so
many steps a set of pairs is drawn and searched; training then stays within that set and its chosen noise.

Stages: `crn`, the generator without noise (a regression, m = 1: the cascaded refinement baseline; 0 pictures by
default, the published run started from its authors' weights); `imle`; `settle`, with a fresh noise encoder, fresh Adam
and a tenth of the rate, as the released code goes on after six of its sixteen rounds.

Different from it:
- with other VGG weights each layer's factor is 1 / mean distance of random training pairs at that layer
  (`perceptual_factors`);
- a search works through one pair at a time; only the seed of the chosen noise is kept, never the noise;
- follow-ups on the same search, off in preset `paper`: a projected one, rejection (`epsilon`), adaptive thresholds
  (`adaptive_*`), a search level by level (preset `chimle`, on this generator; there a code of 128 numbers a level joins
  the noise, and the distance is LPIPS);
- weight averages (`average_decay`) and noise added to the chosen noise (`jitter`) are there, off in preset `paper`.
"""

from torch import nn

from models.family import ArtifactSpec, Facts, FieldSpec
from models.group import Group
from models.imle.recipe import PRESETS, Config
from models.imle.training import IMLE, check, noise_seed

SUMMARY = "many outputs that cover the data, from label maps or pictures; no discriminator"
"""What the family is for, in a line."""


def fields(recipe: Config) -> dict[str, FieldSpec]:
    """The fields that it is trained on."""
    return {"input": FieldSpec(recipe.condition), "target": FieldSpec("image")}


def artifacts(recipe: Config) -> dict[str, ArtifactSpec]:
    """The artifacts of the training set that it uses."""
    return {
        "rarity": ArtifactSpec("re-balancing by the rarity of each class's colours"),
        "matches": ArtifactSpec("stage imle, in place of its own searches"),
    }


def build(recipe: Config, group: Group, perceptual: nn.Module | None = None, facts: Facts | None = None) -> IMLE:
    """Conditional IMLE with fresh weights from `recipe.seed`, the same on every rank.

    Args:
        perceptual: the VGG (models.common.vgg.VGG) of the distance, with `recipe.perceptual_layers` among its layers.
            It is no part of `state_dict()`. None suffices for sampling, and where the recipe names no layers.

    Raises:
        ValueError: sizes that do not fit together, or factors that do not belong to this VGG.
    """
    return IMLE(recipe, group, perceptual)


__all__ = ["IMLE", "PRESETS", "SUMMARY", "Config", "artifacts", "build", "check", "fields", "noise_seed"]
