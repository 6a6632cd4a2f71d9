"""pix2pix: what is trained, and the presets."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from models.family import Recipe


@dataclass(frozen=True)
class Config(Recipe):
    """The paper's values for facades, as the Lua code has them, which gave the published figures."""

    LENGTHS: ClassVar[tuple[str, ...]] = ("constant_epochs", "decay_epochs")
    SCALED: ClassVar[tuple[str, ...]] = ("epoch",)

    fit: Literal["cover", "stretch", "pad"] = "stretch"
    """Both sides are resized. Source: Lua and PyTorch code."""
    condition: Literal["image", "grey", "labels", "lightness"] = "image"
    """What G sees: a picture in colour or in grey, class ids, or the lightness of the target alone (colourisation: G
    then makes a and b of CIE Lab). Source: the PyTorch code's input_nc and colorization mode; labels are ours."""
    labels: int = 0
    """Number of classes where the condition is labels."""

    generator: Literal["unet", "resnet"] = "unet"
    """Source: the paper (U-Net); the PyTorch code also has the residual one."""
    levels: int = 8
    """Times the U-Net halves the picture; 8 takes multiples of 256 pixels, 7 of 128. Source: the paper."""
    skips: bool = True
    """False: the paper's encoder-decoder."""
    blocks: int = 9
    """Residual blocks of the residual generator. Source: PyTorch code (9 or 6)."""
    width: int = 64
    """Channels of G's first layer. Source: the paper."""
    norm: Literal["batch", "instance"] = "batch"
    """In G and D. Source: the paper."""
    dropped: tuple[int, ...] = (1, 2, 3)
    """Decoder layers of the U-Net with dropout 0.5, the innermost is 1. Source: the paper and the Lua code; the PyTorch
    code has (2, 3, 4)."""
    block_dropout: float = 0.5
    """Dropout within the blocks of the residual generator. Source: PyTorch code."""
    code: int = 0
    """Entries of a Gaussian noise vector at G's input, 0 for none. The paper tried it and found that G ignores it."""
    eval_mode: bool = False
    """Use the trained G without dropout and with running statistics. Source: off, as the paper says (section 3.4): it
    runs as in training, so dropout is the noise that makes samples differ."""

    discriminator_width: int = 64
    """Channels of D's first layer. Source: the paper."""
    discriminator_layers: int = 3
    """Convolutions of D of stride 2; patches of 1, 16, 34, 70, 142, 286 pixels for 0, 1, 2, 3, 4, 5. Source: the paper
    (70)."""
    conditional: bool = True
    """Whether D sees the input beside the output. Source: the paper (cGAN; GAN in its table 1 does not)."""
    game: Literal["cgan", "lsgan", "hinge"] = "cgan"
    """Adversarial loss. Source: the paper (cross-entropy); the PyTorch code also has least squares."""
    gan_weight: float = 1.0
    """Weight of G's adversarial term. Source: the paper (0 gives L1 alone)."""
    l1_weight: float = 100.0
    """lambda. Source: the paper."""

    batch: int = 1
    """Pairs a step. Source: the paper (1 to 10; 1 for facades)."""
    rate: float = 2e-4
    """Adam's learning rate. Source: the paper."""
    beta1: float = 0.5
    """Adam's first moment. Source: the paper."""
    beta2: float = 0.999
    """Adam's second moment. Source: the paper."""
    epoch: int = 400
    """Pictures that count as one epoch. Source: facades' training set."""
    constant_epochs: int = 200
    """Epochs at the full rate. Source: Lua code (200); PyTorch code 100."""
    decay_epochs: int = 0
    """Epochs in which it falls. Source: Lua code (none); PyTorch code 100, the last at 1/101 of the rate."""
    augment: tuple[float, ...] = (286 / 256,)
    """Scale before the random crop. Source: the paper (286 to 256 pixels)."""
    flip: float = 0.5
    """Probability of mirroring. Source: the paper."""


PAPER = Config()
# Of all families: at most 3 million weights in G, and with 400 pairs about 15 minutes on one core of a CPU.
SMALL = replace(
    PAPER,
    size=128,
    levels=7,
    width=16,
    discriminator_width=32,
    discriminator_layers=3,
    constant_epochs=12,
    decay_epochs=12,
)
PRESETS: dict[str, Config] = {
    "paper": PAPER,
    "pytorch": replace(PAPER, dropped=(2, 3, 4), constant_epochs=100, decay_epochs=100),
    "edges": replace(PAPER, condition="grey", batch=4, epoch=49_825, constant_epochs=15, augment=(1.0,), flip=0.0),
    "colour": replace(PAPER, condition="lightness", batch=4, epoch=1_281_167, constant_epochs=6),
    "noise": replace(PAPER, code=8, dropped=()),
    "resnet": replace(PAPER, generator="resnet", constant_epochs=100, decay_epochs=100),
    "small": SMALL,
    "small-colour": replace(SMALL, condition="lightness"),
    "tiny": replace(
        PAPER,
        size=16,
        levels=4,
        width=4,
        discriminator_width=4,
        discriminator_layers=1,
        batch=4,
        epoch=16,
        constant_epochs=1,
        decay_epochs=1,
        augment=(18 / 16,),
    ),
}
