"""PixelCNN: Conditional Image Generation with PixelCNN Decoders, and the networks before and after it.

van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves, Kavukcuoglu, NeurIPS 2016. https://arxiv.org/abs/1606.05328
van den Oord, Kalchbrenner, Kavukcuoglu, Pixel Recurrent Neural Networks, ICML 2016. https://arxiv.org/abs/1601.06759
Salimans, Karpathy, Chen, Kingma, PixelCNN++, ICLR 2017. https://arxiv.org/abs/1701.05517

A picture's probability is the product of its pixels', each given those before it in raster order, and the channels of a
pixel each given those before: exact, so pictures can be compared by it, and drawn pixel by pixel. Two networks (gated,
plain), three distributions of a pixel (softmax, Bernoulli, mixture of logistics), and a condition: none, a class, a
vector or map, or the picture's own code (the auto-encoder).

Different from the papers:
- what a mask forbids is not connected, in place of weights multiplied by 0;
- the vertical stack's row r knows of the rows above r from the first layer on: nothing is shifted between the stacks;
- layers may be dilated (presets `mnist*`), and weights are averaged;
- the first layer may read an embedding of each level beside the level's value (grey presets `mnist*`, and `tiny*`);
- the mixture's masses are exact where the released code replaces small ones by a density, and sampled in 8 bits;
- sizes, rates and lengths that the papers leave out are ours, as the recipe's docstrings say;
- from PixelCNN++ only the mixture is here, not its network.
"""

from torch import nn

from models.family import ArtifactSpec, Facts, Family, FieldSpec
from models.group import Group
from models.pixelcnn.conditions import Condition
from models.pixelcnn.model import Model
from models.pixelcnn.recipe import PRESETS, Config, check
from models.pixelcnn.sampling import between, naive, sample, uniforms
from models.pixelcnn.squared import SquaredAutoEncoder
from models.pixelcnn.training import AutoEncoder, PixelCNN

SUMMARY = "pictures pixel by pixel with their exact likelihood; by class, vector or own code"
"""What the family is for, in a line."""


def fields(recipe: Config) -> dict[str, FieldSpec]:
    """The fields that it is trained on."""
    found = {"target": FieldSpec("image", channels=recipe.channels)}
    if recipe.condition == "class":
        found["class"] = FieldSpec("class")
    if recipe.condition == "array":
        found["code"] = FieldSpec("array")
    return found


def artifacts(recipe: Config) -> dict[str, ArtifactSpec]:
    """It uses none."""
    return {}


def build(recipe: Config, group: Group, perceptual: nn.Module | None = None, facts: Facts | None = None) -> Family:
    """PixelCNN, its auto-encoder, or the squared-error one, with fresh weights from `recipe.seed`, the same on every
    rank.

    Args:
        facts: numbers of classes (`--condition class`), the shape of `code` (`--condition array`).

    Raises:
        ValueError: a recipe whose values do not fit together, or facts that are missing.
    """
    if recipe.decoder == "squared":
        return SquaredAutoEncoder(recipe, group)
    return (AutoEncoder if recipe.condition == "own" else PixelCNN)(recipe, group, facts or Facts())


__all__ = [
    "PRESETS",
    "SUMMARY",
    "AutoEncoder",
    "Condition",
    "Config",
    "Model",
    "PixelCNN",
    "SquaredAutoEncoder",
    "artifacts",
    "between",
    "build",
    "check",
    "fields",
    "naive",
    "sample",
    "uniforms",
]
