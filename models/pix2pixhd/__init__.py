"""pix2pixHD: High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs.

Wang, Liu, Zhu, Tao, Kautz, Catanzaro, CVPR 2018. https://arxiv.org/abs/1711.11585

From a map of classes and one of objects: a global generator, enhancers that each double the resolution,
discriminators at several scales whose activations are matched, and features of each object by which its style can be
chosen. Stages: `global`; with enhancers `enhancer`, the global network fixed, and `joint`, all together.

As in the released code: feature matching is averaged over the scales (the paper sums), the perceptual loss takes the
picture in [-1, 1] without ImageNet's normalisation, biases start from PyTorch's uniform, features are not given to D,
coarse levels see averaged (soft) labels, D's padding is 2.

Different from it:
- object ids may have any bit depth (there, 8-bit maps gave one feature for nearly all objects);
- a class without clusters has features 0 (there, memory that nobody wrote); the class of an object is that of the label
  map (there, its id, divided by 1000 from 1000 on), its feature the mean itself;
- at most 64 objects of a picture, the largest, enter the clusters;
- stage `global` takes every second pixel of the ids and the average of pictures from the full-size sample; D's Adam
  starts afresh in `joint`.
"""

from torch import nn

from models.family import ArtifactSpec, Facts, FieldSpec
from models.group import Group
from models.pix2pixhd.recipe import PRESETS, Config
from models.pix2pixhd.training import Pix2PixHD, check

SUMMARY = "sharp pictures from label and instance maps, styles and edits of single objects"
"""What the family is for, in a line."""


def fields(recipe: Config) -> dict[str, FieldSpec]:
    """The fields that it is trained on."""
    found = {"input": FieldSpec(recipe.condition), "target": FieldSpec("image")}
    return {**found, "instances": FieldSpec("instances")} if recipe.instances else found


def artifacts(recipe: Config) -> dict[str, ArtifactSpec]:
    """The artifacts of the training set that it uses: none."""
    return {}


def build(recipe: Config, group: Group, perceptual: nn.Module | None = None, facts: Facts | None = None) -> Pix2PixHD:
    """pix2pixHD with fresh weights from `recipe.seed`, the same on every rank.

    Args:
        perceptual: the VGG (models.common.vgg.VGG) of the perceptual loss, with `recipe.perceptual_layers` among its
            layers. It is no part of `state_dict()`. None suffices for sampling, and where the recipe names no layers.

    Raises:
        ValueError: sizes or layers that do not fit together.
    """
    return Pix2PixHD(recipe, group, perceptual)


__all__ = ["PRESETS", "SUMMARY", "Config", "Pix2PixHD", "artifacts", "build", "check", "fields"]
