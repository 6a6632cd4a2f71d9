"""pix2pix: Image-to-Image Translation with Conditional Adversarial Networks.

Isola, Zhu, Zhou, Efros, CVPR 2017. https://arxiv.org/abs/1611.07004

A U-Net turns the input into the output; a discriminator that looks at patches of input and output together says whether
they are real; an L1 term keeps the output near the truth. Dropout is the only noise, and stays on when the network is
used.

Where the paper's own code (Lua) and the later PyTorch code differ, preset `paper` follows the first, which gave the
published figures (dropout in the three innermost decoder layers, a constant rate), and preset `pytorch` the second. In
both, the innermost encoder layer has no norm; in the paper it had one, which at batch 1 made it 0 (its erratum).

Different from either:
- cross-entropy is computed from logits, as in the PyTorch code since 2018;
- G's loss uses D's answers after D's step; the Lua code uses its answers from before, with the moved weights' gradient;
- D's loss is not halved: under Adam that changes nothing but rounding;
- when used, each picture is normalised by its own statistics, whatever else is in the batch (the codes' batch 1);
- with N workers the batch statistics are those of the whole batch.
"""

from torch import nn

from models.family import ArtifactSpec, Facts, FieldSpec
from models.group import Group
from models.pix2pix.recipe import PRESETS, Config
from models.pix2pix.training import Pix2Pix, check

SUMMARY = "one output from paired pictures or label maps, and colourisation; the baseline"
"""What the family is for, in a line."""


def fields(recipe: Config) -> dict[str, FieldSpec]:
    """The fields that it is trained on; colourisation needs the target alone."""
    if recipe.condition == "lightness":
        return {"target": FieldSpec("image")}
    if recipe.condition == "labels":
        return {"input": FieldSpec("labels"), "target": FieldSpec("image")}
    return {"input": FieldSpec("image", channels=1 if recipe.condition == "grey" else 3), "target": FieldSpec("image")}


def artifacts(recipe: Config) -> dict[str, ArtifactSpec]:
    """The artifacts of the training set that it uses: none."""
    return {}


def build(recipe: Config, group: Group, perceptual: nn.Module | None = None, facts: Facts | None = None) -> Pix2Pix:
    """pix2pix with fresh weights from `recipe.seed`, the same on every rank. `perceptual` is not used.

    Raises:
        ValueError: sizes that do not fit together.
    """
    return Pix2Pix(recipe, group)


__all__ = ["PRESETS", "SUMMARY", "Config", "Pix2Pix", "artifacts", "build", "check", "fields"]
