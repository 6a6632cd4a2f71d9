"""BicycleGAN: Toward Multimodal Image-to-Image Translation.

Zhu, Zhang, Pathak, Darrell, Efros, Wang, Shechtman, NeurIPS 2017. https://arxiv.org/abs/1711.11586

Two cycles share a generator: an output is encoded into a code from which it is rebuilt (cVAE-GAN), and a random code
makes an output from which the code is read back (cLR-GAN). The first keeps the outputs near the truth, the second keeps
the code from being ignored.

As in the released code: the discriminators do not see the input, and look at two scales, the second half as wide; there
is one for encoded and one for random codes, with different real pictures; the divergence is summed over the batch; the
latent regression compares E's mean, and trains G alone; first weights are fifty times smaller than Glorot's.

Different from it:
- halves of a batch are its even and odd samples (there, its first and second half), so that workers divide it in pairs;
- all gradients are taken before a network moves. D's losses use the pictures made before G's step there too, so the
  steps are equal;
- E takes pictures of any size: its last pooling is the mean over all positions (there, 8 x 8 at 256 pixels).
"""

from torch import nn

from models.bicyclegan.recipe import PRESETS, Config
from models.bicyclegan.training import BicycleGAN, check
from models.family import ArtifactSpec, Facts, FieldSpec
from models.group import Group

SUMMARY = "many outputs from paired pictures; the code of an example can be read and used"
"""What the family is for, in a line."""


def fields(recipe: Config) -> dict[str, FieldSpec]:
    """The fields that it is trained on."""
    return {"input": FieldSpec("image", channels=1 if recipe.condition == "grey" else 3), "target": FieldSpec("image")}


def artifacts(recipe: Config) -> dict[str, ArtifactSpec]:
    """The artifacts of the training set that it uses: none."""
    return {}


def build(recipe: Config, group: Group, perceptual: nn.Module | None = None, facts: Facts | None = None) -> BicycleGAN:
    """BicycleGAN with fresh weights from `recipe.seed`, the same on every rank. `perceptual` is not used.

    Raises:
        ValueError: sizes that do not fit together.
    """
    return BicycleGAN(recipe, group)


__all__ = ["PRESETS", "SUMMARY", "BicycleGAN", "Config", "artifacts", "build", "check", "fields"]
