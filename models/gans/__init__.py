"""Eleven objectives of generative adversarial networks over shared backbones.

| objective | paper |
| --- | --- |
| minimax, nonsaturating | Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661 |
| lsgan, lsgan-pearson | Mao et al. 2017, https://arxiv.org/abs/1611.04076 |
| wgan | Arjovsky et al. 2017, https://arxiv.org/abs/1701.07875 |
| wgan-gp | Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028 |
| dragan | Kodali et al. 2017, https://arxiv.org/abs/1705.07215 |
| ebgan, ebgan-pt | Zhao et al. 2017, https://arxiv.org/abs/1609.03126 |
| began | Berthelot et al. 2017, https://arxiv.org/abs/1703.10717 |
| catgan | Springenberg 2016, https://arxiv.org/abs/1511.06390 |
| sgan | Odena 2016, https://arxiv.org/abs/1606.01583 |
| salimans | Salimans et al. 2016, https://arxiv.org/abs/1606.03498 |
| acgan | Odena et al. 2017, https://arxiv.org/abs/1610.09585 |
| infogan | Chen et al. 2016, https://arxiv.org/abs/1606.03657 |
| fgan-NAME | Nowozin et al. 2016, https://arxiv.org/abs/1606.00709 |

A game is a list of terms, penalties and constraints with an order of steps (`rules.py`); networks, data and stepping
know no objective. Critics return named heads.

Different from the papers:
- pictures lie in [-1, 1] and end in tanh where a paper has a sigmoid; convolutions of DCGAN form are 4 x 4 throughout;
- DRAGAN's noise is Gaussian as in its paper, sized by the batch's deviation as in its code;
- catGAN and Salimans et al. have their perceptrons' widths and noise, not their weight normalisation;
- the continuous codes of infoGAN are scored by a Gaussian of deviation 1, as in its released code.
"""

from torch import nn

from models.family import ArtifactSpec, Facts, FieldSpec
from models.gans.assembly import check
from models.gans.recipe import PRESETS, Config
from models.gans.rules import rules
from models.gans.training import GANs
from models.group import Group

SUMMARY = "pictures or points from noise, from a class, or with few labels: eleven adversarial objectives"
"""What the family is for, in a line."""


def fields(recipe: Config) -> dict[str, FieldSpec]:
    """The fields that it is trained on."""
    sample = FieldSpec("array") if recipe.form == "points" else FieldSpec("image", channels=recipe.channels)
    needed = rules(recipe).labels != "none" or recipe.conditional
    return {recipe.field: sample, "class": FieldSpec("class", required=needed)}


def artifacts(recipe: Config) -> dict[str, ArtifactSpec]:
    """It uses none."""
    return {}


def build(recipe: Config, group: Group, perceptual: nn.Module | None = None, facts: Facts | None = None) -> GANs:
    """Generator and critic with fresh weights from `recipe.seed`, the same on every rank.

    Raises:
        ValueError: what does not fit together, or not the data set.
    """
    return GANs(recipe, group, facts or Facts())


__all__ = ["PRESETS", "SUMMARY", "Config", "GANs", "artifacts", "build", "check", "fields", "rules"]
