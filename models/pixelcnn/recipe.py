"""PixelCNN: what is trained, and the presets."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from models.family import Recipe


@dataclass(frozen=True)
class Config(Recipe):
    """Gated PixelCNN as the paper trained it on 32 x 32 ImageNet; lengths in pictures seen.

    Source "Gated": van den Oord et al., NeurIPS 2016; "PixelRNN": van den Oord et al., ICML 2016; "PixelCNN++":
    Salimans et al., ICLR 2017.
    """

    LENGTHS: ClassVar[tuple[str, ...]] = ("images",)

    size: int = 32
    """Pixels. Source: Gated."""
    channels: int = 3
    """3 (RGB) or 1 (grey)."""
    levels: int = 256
    """Values that a channel has; below 256 those of 8 bits are divided evenly. Source: PixelRNN."""
    binarise: bool = False
    """Draw each pixel as 0 or 1 with its grey value as the probability of 1, anew each time a picture is seen; a
    held-out picture always alike. For `levels 2`; without it, 128 and above is 1. Source: usual for MNIST."""

    network: Literal["gated", "plain"] = "gated"
    """gated: two stacks, no blind spot (Gated); plain: residual blocks (PixelRNN)."""
    head: Literal["softmax", "bernoulli", "mixture"] = "softmax"
    """softmax: any distribution of the levels (PixelRNN); bernoulli: one number, for 2 levels; mixture: discretised
    logistics, whole pixels at once (PixelCNN++)."""
    components: int = 10
    """Logistics of the mixture. Source: PixelCNN++."""
    features: int = 384
    """Feature maps p of a gated layer (Gated); h of a plain network, whose blocks are 2h wide (PixelRNN)."""
    layers: int = 20
    """Layers after the first one. Source: Gated."""
    first_kernel: int = 7
    """Side of the first layer's filters. Source: PixelRNN."""
    kernel: int = 5
    """Side of the later layers' filters. Source: Gated."""
    dilations: tuple[int, ...] = (1,)
    """Distances between a later layer's taps, layer by layer, cycled. Gated networks only. Ours: the papers have
    none."""
    embedding: int = 0
    """Size of a learned embedding of the levels, one table for all channels, which the first layer reads beside the
    level's value; 0: the value alone, as in the papers. Ours: a digit repeats the same greys, and similar greys are
    hard to tell apart by value. `--decoder squared` has none."""
    head_features: int = 1023
    """Width of the 1x1 convolution before the output's. Source: PixelRNN (1024; for RGB a multiple of 3)."""
    normalisation: Literal["none", "batch"] = "none"
    """Batch norm is refused: it would make a picture's probability depend on later pixels and on other pictures."""

    condition: Literal["none", "class", "array", "own"] = "none"
    """What a picture is conditioned on: nothing, its class, a vector or map in the field `code` (an embedding made by
    another network), or its own code by an encoder trained with it (the auto-encoder)."""
    located: bool = False
    """Whether a vector becomes a map of the picture's size first, by a deconvolutional network, so that it says what is
    where. Source: Gated, section 2.3 (eq. 5)."""
    map_features: int = 64
    """Channels of that map and of the deconvolutional network. Ours."""
    code: int = 100
    """Numbers of an auto-encoder's code. Source: Gated, section 3.4 (10 and 100)."""
    encoder_features: int = 64
    """Channels after the encoder's first convolution, doubled at each halving. Ours."""
    decoder: Literal["pixelcnn", "squared"] = "pixelcnn"
    """squared: a deconvolutional decoder trained with squared error, which the paper compares its auto-encoder with."""

    batch: int = 128
    """Pictures a step. Source: Gated."""
    images: int = 25_600_000
    """Pictures seen. Source: Gated (200,000 steps)."""
    optimiser: Literal["rmsprop", "adam"] = "rmsprop"
    """Source: PixelRNN."""
    rate: float = 1e-4
    """Its learning rate. Ours: the papers name none."""
    rate_decay: float = 1.0
    """What it is multiplied by at each step. Source: PixelCNN++ has 0.999995."""
    rate_rise: int = 0
    """Pictures at the beginning over which the rate rises in proportion to those seen. Ours."""
    rate_fall: int = 0
    """Pictures at the end over which it falls in proportion to those left. Ours."""
    beta2: float = 0.999
    """Decay of Adam's second moment. Source: PixelCNN++ has 0.9995."""
    average_decay: float = 0.0
    """Decay of the weight averages, per step, which are what is evaluated and sampled; 0: none. Source: PixelCNN++ has
    0.9995."""


IMAGENET = Config()
MNIST = replace(
    IMAGENET,
    size=28,
    channels=1,
    features=64,
    layers=7,
    first_kernel=5,
    kernel=3,
    dilations=(1, 2, 1, 4, 1, 2, 1),
    embedding=64,
    head_features=256,
    map_features=32,
    code=10,
    encoder_features=32,
    batch=16,
    images=3_000_000,
    optimiser="adam",
    rate=2e-3,
    rate_decay=0.99999,
    average_decay=0.999,
)
BINARY = replace(MNIST, levels=2, binarise=True, head="bernoulli", embedding=0, head_features=64)
# h = 128 in the paper: 129 gives the three channels' groups the same width.
CIFAR = replace(IMAGENET, network="plain", features=129, layers=15, kernel=3, batch=16, images=10_000_000, rate=1e-4)
TINY = replace(
    MNIST,
    size=8,
    levels=16,
    features=8,
    layers=2,
    kernel=3,
    dilations=(1, 2),
    embedding=2,
    head_features=8,
    map_features=4,
    code=3,
    encoder_features=4,
    batch=4,
    images=64,
    rate=1e-2,
    average_decay=0.9,
)
PRESETS: dict[str, Config] = {
    "imagenet32": IMAGENET,
    "imagenet32-autoencoder": replace(IMAGENET, condition="own"),
    "imagenet32-squared": replace(IMAGENET, condition="own", decoder="squared", optimiser="adam", average_decay=0.9995),
    "cifar10": CIFAR,
    "cifar10-mixture": replace(
        IMAGENET,
        head="mixture",
        features=160,
        layers=15,
        optimiser="adam",
        rate=1e-3,
        batch=64,
        images=10_000_000,
        rate_decay=0.999995,
        average_decay=0.9995,
    ),
    "mnist": MNIST,
    "mnist-class": replace(MNIST, condition="class"),
    "mnist-binary": BINARY,
    "mnist-plain": replace(MNIST, network="plain", features=32, first_kernel=7, dilations=(1,)),
    "mnist-autoencoder": replace(MNIST, condition="own"),
    "mnist-squared": replace(MNIST, condition="own", decoder="squared"),
    "tiny": TINY,
    "tiny-class": replace(TINY, condition="class", located=True),
    "tiny-autoencoder": replace(TINY, condition="own"),
    "tiny-rgb": replace(TINY, channels=3, features=9, head_features=9),
    "tiny-squared": replace(TINY, condition="own", decoder="squared"),
}


def check(recipe: Config, perceptual: object = None) -> None:
    """Raises ValueError where the recipe's values do not fit together."""
    r = recipe
    for name, kernel in (("kernel", r.kernel), ("first-kernel", r.first_kernel)):
        if kernel < 3 or kernel % 2 == 0:
            raise ValueError(
                f"--{name} {kernel}: give an odd number from 3, so that a filter has a centre and neighbours"
            )
    if r.channels not in (1, 3):
        raise ValueError(f"--channels {r.channels}: pictures have 1 (grey) or 3 (RGB)")
    if not 2 <= r.levels <= 256:
        raise ValueError(f"--levels {r.levels}: give 2 to 256; pictures are read as 8 bits")
    if (r.head == "bernoulli" or r.binarise) and r.levels != 2:
        option = "--head bernoulli" if r.head == "bernoulli" else "--binarise"
        raise ValueError(f"{option} is for --levels 2, not {r.levels}")
    if r.rate_rise + r.rate_fall > r.images:
        raise ValueError(
            f"--rate-rise {r.rate_rise}, --rate-fall {r.rate_fall}: more than --images {r.images} together"
        )
    if not 0 < r.beta2 < 1:
        raise ValueError(f"--beta2 {r.beta2}: give a number between 0 and 1")
    if r.normalisation != "none":
        raise ValueError(
            "--normalisation batch: batch norm makes a picture's probability depend on later pixels and on the other "
            "pictures of the batch, so it would be no likelihood; leave it out"
        )
    if r.network == "plain" and set(r.dilations) != {1}:
        raise ValueError(f"--dilations {' '.join(map(str, r.dilations))}: the plain network has none (1)")
    if not r.dilations or min(r.dilations) < 1:
        raise ValueError("--dilations: give at least one, each from 1")
    if r.channels > 1 and r.head != "mixture":
        for name, width in (("features", r.features), ("head-features", r.head_features)):
            if width % r.channels:
                raise ValueError(f"--{name} {width}: must be a multiple of {r.channels}, one part for each channel")
    for name in ("features", "head_features", "components", "code", "map_features", "encoder_features"):
        if getattr(r, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} 0: give at least 1")
    if r.decoder == "squared" and r.condition != "own":
        raise ValueError(f"--decoder squared is for --condition own (an auto-encoder), not {r.condition}")
    if r.condition == "own" and min(r.frame) < 8:
        raise ValueError(f"--size {r.size}: the encoder needs at least 8 pixels")
