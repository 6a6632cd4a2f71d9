"""BicycleGAN: what is trained, and the presets."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from models.family import Recipe


@dataclass(frozen=True)
class Config(Recipe):
    """The paper's values for facades, as the released code's scripts have them."""

    LENGTHS: ClassVar[tuple[str, ...]] = ("constant_epochs", "decay_epochs")
    SCALED: ClassVar[tuple[str, ...]] = ("epoch",)

    fit: Literal["cover", "stretch", "pad"] = "stretch"
    """Both sides are resized. Source: released code."""
    condition: Literal["image", "grey"] = "image"
    """What G sees: a picture in colour or in grey. Source: released code (grey for edges)."""

    code: int = 8
    """Entries of z. Source: the paper (2, 8 and 256 tried)."""
    code_in: Literal["all", "input"] = "all"
    """z into every convolution of the U-Net's first half, or into the first alone. Source: released code, where_add."""
    levels: int = 8
    """Times the U-Net halves the picture; 8 takes multiples of 256 pixels. Source: the paper."""
    width: int = 64
    """Channels of G's first layer. Source: released code, ngf."""
    upsampling: Literal["transposed", "bilinear"] = "transposed"
    """Source: released code, upsample basic."""
    dropped: tuple[int, ...] = (2, 3, 4)
    """Decoder layers with dropout 0.5, the innermost is 1; off when the network is used. Source: released code's
    scripts."""
    encoder: Literal["resnet", "conv"] = "resnet"
    """Source: the paper (E_ResNet; E_CNN is its other one)."""
    encoder_width: int = 64
    """Channels of E's first layer. Source: released code, nef."""
    encoder_depth: int = 4
    """Residual blocks (4 for 256 pixels, 3 for 128), or convolutions (5 and 4). Source: released code."""
    discriminator_width: int = 64
    """Channels of D's first layer at the finest scale; half as many at the next. Source: released code, ndf."""
    discriminator_layers: int = 3
    """Convolutions of D of stride 2. Source: released code."""
    discriminator_scales: int = 2
    """Source: the paper (patches of 70 and 140 pixels)."""
    conditional: bool = False
    """Whether D sees the input beside the output. Source: the paper (unconditional: better results)."""

    gan_weight: float = 1.0
    """Weight of the adversarial term of the encoded picture. Source: the paper."""
    gan2_weight: float = 1.0
    """Weight of the adversarial term of the random picture. Source: the paper."""
    l1_weight: float = 10.0
    """lambda. Source: the paper."""
    latent_weight: float = 0.5
    """lambda_latent. Source: the paper."""
    kl_weight: float = 0.01
    """lambda_KL; the term is a sum over pictures and entries, not a mean. Source: the paper."""

    batch: int = 2
    """Pictures a step, even: the first of each two is encoded, the second gives its output to the second
    discriminator. Source: released code."""
    rate: float = 2e-4
    """Adam's learning rate. Source: the paper."""
    beta1: float = 0.5
    """Adam's first moment. Source: released code."""
    beta2: float = 0.999
    """Adam's second moment. Source: released code."""
    epoch: int = 400
    """Pictures that count as one epoch. Source: facades' training set."""
    constant_epochs: int = 200
    """Epochs at the full rate. Source: released code's script."""
    decay_epochs: int = 200
    """Epochs in which it falls, the last at 1 / (decay_epochs + 1). Source: released code's script."""
    augment: tuple[float, ...] = (286 / 256,)
    """Scale before the random crop. Source: released code."""
    flip: float = 0.5
    """Probability of mirroring. Source: released code."""


PAPER = Config()
SMALL = replace(
    PAPER,
    size=128,
    levels=7,
    width=16,
    dropped=(2, 3),
    encoder_width=32,
    encoder_depth=3,
    discriminator_width=32,
    discriminator_layers=2,
    rate=8e-4,  # for so few steps: at 2e-4 the code hardly changes the picture by then
    constant_epochs=10,
    decay_epochs=10,
)
PRESETS: dict[str, Config] = {
    "paper": PAPER,
    "edges2shoes": replace(PAPER, condition="grey", epoch=49_825, constant_epochs=30, decay_epochs=30, augment=(1.0,)),
    "maps": replace(PAPER, epoch=1_096, augment=(600 / 256,)),
    "input-only": replace(PAPER, code_in="input"),
    "small": SMALL,
    "tiny": replace(
        PAPER,
        size=16,
        levels=4,
        width=4,
        dropped=(2,),
        code=3,
        encoder_width=4,
        encoder_depth=2,
        discriminator_width=4,
        discriminator_layers=1,
        batch=4,
        epoch=16,
        constant_epochs=1,
        decay_epochs=1,
        augment=(18 / 16,),
    ),
}
