"""StEP: Style-based Encoder Pre-training for Multi-modal Image Synthesis.

Meshry, Ren, Davis, Shrivastava, CVPR 2021. https://arxiv.org/abs/2104.07098

Four stages: a style encoder E learns from triplets of the style distance; G learns to rebuild the target from the input
and E's frozen code; G, D and E are fine-tuned together; a mapper M turns noise into codes of the training set (IMLE).

Quirks of the released code that are followed:
- each GAN term is halved; E is fine-tuned at G's learning rate; z is about 1 at the start (mean + exp(logvar / 2)), and
  not random; the second and third stage's decay ends at 0.09 of the rate, not at 0;
- the reconstruction term is a squared VGG difference with weights that hold for Caffe's VGG-16 alone.

Different from it:
- with other VGG weights each layer of the perceptual loss is rescaled (`perceptual_value`);
- the weight averages run on from stage to stage (there, each stage's session begins them anew);
- the mapper uses all codes (there, a random 50,000 where there are more), and M starts from Glorot's uniform;
- the encoder's length is a number (there, until the loss levels off);
- a batch smaller than 64 where the mapper has fewer codes than that.
"""

from torch import nn

from models.family import ArtifactSpec, Facts, FieldSpec
from models.group import Group
from models.step.recipe import PRESETS, Config
from models.step.training import StEP, check

SUMMARY = "style from one example image: encode, transfer, sample; needs neighbours"
"""What the family is for, in a line."""


def fields(recipe: Config) -> dict[str, FieldSpec]:
    """The fields that it is trained on."""
    return {"input": FieldSpec("image", required=False), "target": FieldSpec("image")}


def artifacts(recipe: Config) -> dict[str, ArtifactSpec]:
    """The artifacts of the training set that it uses."""
    return {"neighbours": ArtifactSpec("the triplets of stage encoder", ("encoder",) if recipe.encoder_images else ())}


def build(recipe: Config, group: Group, perceptual: nn.Module | None = None, facts: Facts | None = None) -> StEP:
    """StEP with fresh weights from `recipe.seed`, the same on every rank.

    Args:
        perceptual: the VGG (models.common.vgg.VGG) of the perceptual loss, with `recipe.perceptual_layers` among its
            layers. It is no part of `state_dict()`: rebuild it from its weight file. None suffices for the encoder and
            mapper stages and for sampling.

    Raises:
        ValueError: sizes that do not fit together, or factors that do not belong to this VGG.
    """
    return StEP(recipe, group, perceptual)


__all__ = ["PRESETS", "SUMMARY", "Config", "StEP", "artifacts", "build", "check", "fields"]
