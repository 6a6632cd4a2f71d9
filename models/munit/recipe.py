"""MUNIT: what is trained, and the presets."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from models.family import PerceptualRecipe


@dataclass(frozen=True)
class Config(PerceptualRecipe):
    """The paper's values for edges and shoes, as the released code has them."""

    LENGTHS: ClassVar[tuple[str, ...]] = ("images",)
    SCALED: ClassVar[tuple[str, ...]] = ("images", "halve_steps")

    perceptual_net: Literal["vgg16", "vgg19"] = "vgg16"
    """Source: released code."""
    perceptual_layers: tuple[str, ...] = ()
    """Layers of the domain-invariant perceptual loss; () for none. Source: released code (none at 256 pixels; relu5_3
    at 512, preset `512`)."""
    perceptual_preprocessing: Literal["imagenet", "caffe", "none"] = "caffe"
    """Source: released code."""
    perceptual_pools: int = 3
    """Source: released code (no pooling between its fourth and fifth block)."""
    perceptual_weight: float = 1.0
    """Weight of that loss: squared differences of instance-normalised activations of each translation and of the
    picture that it was made from. Source: released code (1 at 512 pixels)."""

    pairing: Literal["unpaired", "paired", "classes"] = "unpaired"
    """How the two domains are given. `unpaired`: fields `input` and `target`, each drawn in its own order. `paired`:
    the same fields, drawn together. `classes`: one field `target`, the domain is class 0 or 1 of field `class`. Source:
    the paper (unpaired); the others are ours."""

    code: int = 8
    """Entries of the style code. Source: the paper."""
    width: int = 64
    """Channels of the generators' first layers. Source: released code."""
    downs: int = 2
    """Times the content encoder halves the picture. Source: released code."""
    blocks: int = 4
    """Residual blocks of the content encoder, and of the decoder. Source: released code."""
    style_downs: int = 4
    """Times the style encoder halves the picture. Source: released code."""
    hidden: int = 256
    """Units of the MLP's two hidden layers. Source: released code."""
    discriminator_width: int = 64
    """Channels of D's first layer. Source: released code."""
    discriminator_layers: int = 4
    """Convolutions of D of stride 2. Source: released code."""
    discriminator_scales: int = 3
    """Source: the paper."""

    gan_weight: float = 1.0
    """Weight of the adversarial terms. Source: released code."""
    image_weight: float = 10.0
    """lambda_x: L1 of each picture rebuilt in its own domain. Source: the paper."""
    style_weight: float = 1.0
    """lambda_s: L1 of the style read back. Source: the paper."""
    content_weight: float = 1.0
    """lambda_c: L1 of the content read back. Source: the paper."""
    cycle_weight: float = 0.0
    """L1 of the picture after both translations. Source: released code (0 for edges, 10 for yosemite and synthia)."""

    pair_weight: float = 0.0
    """For `paired`: L1 of the input in its target's style and the target. Ours, 0 in all presets."""

    batch: int = 1
    """Pictures of each domain a step. Source: released code."""
    rate: float = 1e-4
    """Adam's learning rate. Source: the paper."""
    halve_steps: int = 100_000
    """Steps after which the rate is halved, again and again. Source: the paper."""
    beta1: float = 0.5
    """Adam's first moment. Source: released code."""
    beta2: float = 0.999
    """Adam's second moment. Source: released code."""
    weight_decay: float = 1e-4
    """Times the weight, added to its gradient. Source: released code."""
    images: int = 1_000_000
    """Pictures of each domain seen. Source: released code."""
    augment: tuple[float, ...] = (1.0,)
    """Scale before the random crop. Source: released code (the shortest side becomes 256 pixels)."""
    flip: float = 0.5
    """Probability of mirroring. Source: released code."""


PAPER = Config()
SMALL = replace(
    PAPER,
    size=128,
    fit="stretch",  # whole pictures: cover without a scale cuts from larger ones
    width=16,
    blocks=3,
    hidden=64,
    discriminator_width=16,
    discriminator_scales=2,
    rate=3e-4,  # for so few steps
    images=1500,
)
PRESETS: dict[str, Config] = {
    "paper": PAPER,
    "yosemite": replace(PAPER, cycle_weight=10.0),
    "512": replace(PAPER, size=512, perceptual_layers=("relu5_3",)),
    "paired": replace(PAPER, pairing="paired"),
    "classes": replace(PAPER, pairing="classes"),
    "small": SMALL,
    "small-paired": replace(SMALL, pairing="paired"),
    "tiny": replace(
        PAPER,
        size=16,
        code=3,
        width=4,
        downs=1,
        blocks=1,
        style_downs=2,
        hidden=8,
        discriminator_width=4,
        discriminator_layers=1,
        discriminator_scales=2,
        batch=4,
        images=32,
    ),
}
