"""pix2pixHD: what is trained, and the presets."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from models.family import PerceptualRecipe


@dataclass(frozen=True)
class Config(PerceptualRecipe):
    """The released code's values for Cityscapes at 512 x 1024; lengths in epochs."""

    LENGTHS: ClassVar[tuple[str, ...]] = (
        "global_constant_epochs",
        "global_decay_epochs",
        "enhancer_epochs",
        "joint_constant_epochs",
        "joint_decay_epochs",
    )
    SCALED: ClassVar[tuple[str, ...]] = ("epoch",)

    size: int = 512
    """Height. Source: released code."""
    aspect: int = 2
    """Width over height. Source: released code."""
    perceptual_net: Literal["vgg16", "vgg19"] = "vgg19"
    """Source: released code."""
    perceptual_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    """Source: released code. () for none."""
    perceptual_preprocessing: Literal["imagenet", "caffe", "none"] = "none"
    """Source: released code (torchvision's VGG, fed the picture in [-1, 1] as it is)."""
    perceptual_factors: tuple[float, ...] = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
    """Factor of each layer's L1 mean. Source: released code; the paper has one over the layer's size."""
    perceptual_weight: float = 10.0
    """Weight of their sum. Source: released code (lambda_feat)."""

    condition: Literal["labels", "image"] = "labels"
    """What G sees: class ids, or pictures. Source: the paper; its code also has pictures (label_nc 0)."""
    labels: int = 35
    """Number of classes, where the condition is labels. Source: released code."""
    instances: bool = True
    """Whether there is a map of object ids (`instances`): G and D then see its edges. Source: the paper."""
    features: int = 0
    """Channels of the features that E reads from each object, 0 for none; G sees them, D does not. Without a map of
    objects they are of each class's area. Source: the paper (3)."""
    clusters: int = 10
    """Clusters of each class's features, from which samples draw. Source: the paper."""
    least_area: float = 1 / 64
    """Share of the picture that an object must cover to enter the clusters. Source: released code."""

    width: int = 64
    """Channels of G at full size; each coarser network has twice as many. Source: released code (64 for the global
    network alone, 32 with one enhancer)."""
    downs: int = 4
    """Times the global network halves the picture. Source: released code's default (n_downsample_global)."""
    blocks: int = 9
    """Residual blocks of the global network. Source: the paper."""
    enhancers: int = 0
    """Local enhancers, each for twice the size. Source: the paper (1 for 2048 x 1024; more are possible)."""
    enhancer_blocks: int = 3
    """Residual blocks of each enhancer. Source: the paper."""
    encoder_width: int = 16
    """Channels of E's first layer. Source: released code (nef)."""
    encoder_downs: int = 4
    """Times E halves the picture. Source: released code (n_downsample_E)."""
    discriminator_width: int = 64
    """Channels of each D's first layer. Source: released code (ndf)."""
    discriminator_layers: int = 3
    """Convolutions of each D of stride 2. Source: released code."""
    discriminator_scales: int = 2
    """Scales of D for the global network; one more with each enhancer. Source: released code (2, and 3 with one)."""

    feature_weight: float = 10.0
    """lambda of the feature matching. Source: the paper."""
    game: Literal["lsgan", "cgan", "hinge"] = "lsgan"
    """Adversarial loss. Source: the paper (least squares)."""

    batch: int = 1
    """Pictures a step. Source: released code."""
    rate: float = 2e-4
    """Adam's learning rate. Source: the paper."""
    beta1: float = 0.5
    """Adam's first moment. Source: released code."""
    beta2: float = 0.999
    """Adam's second moment. Source: released code."""
    epoch: int = 2_975
    """Pictures that count as one epoch. Source: Cityscapes' training set."""
    global_constant_epochs: int = 100
    """Stage global: epochs at the full rate. Source: the paper."""
    global_decay_epochs: int = 100
    """Stage global: epochs in which it falls, the last at 1/100 of it. Source: the paper, released code."""
    enhancer_epochs: int = 10
    """Stage enhancer: epochs with the global network fixed. Source: released code's script (24 GB)."""
    joint_constant_epochs: int = 40
    """Stage joint: epochs of all together at the full rate. Source: released code's script (50, less the 10)."""
    joint_decay_epochs: int = 50
    """Stage joint: epochs in which it falls. Source: released code's script."""
    augment: tuple[float, ...] = (1.0,)
    """Scale before the random crop. Source: released code (scale_width: no crop)."""
    flip: float = 0.5
    """Probability of mirroring. Source: released code."""


PAPER = Config()
SMALL = replace(
    PAPER,
    size=128,
    aspect=1,
    fit="stretch",  # whole pictures: cover without a scale cuts from larger ones
    perceptual_layers=("relu1_1", "relu2_1", "relu3_1"),
    perceptual_preprocessing="imagenet",  # what most weights that are at hand want
    perceptual_factors=(1 / 32, 1 / 16, 1 / 8),
    condition="image",
    labels=0,
    instances=False,
    width=16,
    downs=3,
    blocks=5,
    discriminator_width=24,
    epoch=400,
    global_constant_epochs=3,
    global_decay_epochs=3,
)
SMALL_LABELS = replace(SMALL, condition="labels", labels=12, features=3, encoder_downs=3)
PRESETS: dict[str, Config] = {
    "paper": PAPER,
    "features": replace(PAPER, features=3),
    "1024p": replace(PAPER, size=1024, enhancers=1, width=32),
    "small": SMALL,
    "small-labels": SMALL_LABELS,
    "small-objects": replace(SMALL_LABELS, instances=True),
    "tiny": replace(
        PAPER,
        size=32,
        aspect=1,
        perceptual_layers=("relu1_1",),
        perceptual_factors=(1 / 32,),
        labels=5,
        features=2,
        clusters=3,
        width=4,
        downs=1,
        blocks=1,
        enhancers=1,
        enhancer_blocks=1,
        encoder_width=4,
        encoder_downs=1,
        discriminator_width=4,
        discriminator_layers=1,
        discriminator_scales=1,
        batch=4,
        epoch=8,
        global_constant_epochs=1,
        global_decay_epochs=1,
        enhancer_epochs=1,
        joint_constant_epochs=1,
        joint_decay_epochs=1,
    ),
}
