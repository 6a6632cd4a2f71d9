"""MUNIT: Multimodal Unsupervised Image-to-Image Translation.

Huang, Liu, Belongie, Kautz, ECCV 2018. https://arxiv.org/abs/1804.04732

A picture is a content, which both domains share, and a style of its domain. Encoders take them apart, a decoder joins
them: the content of a picture of A with a random style of B is a translation. No pairs are needed.

Different from the released code:
- D's and G's step share one pass of the content encoders (G does not move in between);
- the domain-invariant perceptual loss (0 in the published runs at 256 pixels; preset `512` has it) has one factor a
  layer, and its VGG is any that `--weights` names (the code's is Caffe's, see `perceptual_preprocessing`);
- an epoch does not end with the shorter domain: each is drawn in its own order without end;
- pairs can be drawn together (`paired`), with an L1 term between the input in its target's style and the target
  (`pair_weight`), and domains can be classes of one field (`classes`).
"""

from torch import nn

from models.family import ArtifactSpec, Facts, FieldSpec
from models.group import Group
from models.munit.recipe import PRESETS, Config
from models.munit.training import MUNIT, check

SUMMARY = "many outputs from two sets of pictures without pairs; the style of an example can be used"
"""What the family is for, in a line."""


def fields(recipe: Config) -> dict[str, FieldSpec]:
    """The fields that it is trained on."""
    if recipe.pairing == "classes":
        return {"target": FieldSpec("image"), "class": FieldSpec("class")}
    return {"input": FieldSpec("image"), "target": FieldSpec("image")}


def artifacts(recipe: Config) -> dict[str, ArtifactSpec]:
    """The artifacts of the training set that it uses: none."""
    return {}


def build(recipe: Config, group: Group, perceptual: nn.Module | None = None, facts: Facts | None = None) -> MUNIT:
    """MUNIT with fresh weights from `recipe.seed`, the same on every rank; `perceptual`: its VGG, if any.

    Raises:
        ValueError: sizes that do not fit together, or with `classes` a data set without two classes.
    """
    if facts is not None and recipe.pairing == "classes" and facts.classes("class") < 2:
        raise ValueError(f"--pairing classes: the data set has {facts.classes('class')} class; two domains are needed")
    return MUNIT(recipe, group, perceptual)


__all__ = ["MUNIT", "PRESETS", "SUMMARY", "Config", "artifacts", "build", "check", "fields"]
