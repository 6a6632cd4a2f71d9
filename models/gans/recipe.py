"""What is trained: the objective, its networks and its setting; presets with each paper's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from models.family import Recipe


@dataclass(frozen=True)
class Config(Recipe):
    """One game. Defaults: a DCGAN on 28 x 28 grey pictures with the non-saturating loss."""

    LENGTHS: ClassVar[tuple[str, ...]] = ("images",)

    size: int = 28
    """Side of the pictures, pixels."""
    objective: str = "nonsaturating"
    """The game: a name of `models.gans.rules.OBJECTIVES`."""
    form: Literal["pictures", "points"] = "pictures"
    """Field `target` of pictures, or field `points` of pairs of numbers."""
    channels: int = 1
    """1: grey, 3: RGB."""
    classes: int = 10
    """Of the objectives with classes (the data set's), or of infoGAN's discrete code."""
    conditional: bool = False
    """Generator and critic are given the class (Mao et al. 2017, section 4.2); not with ResNets and auto-encoders."""

    network: Literal["perceptron", "dcgan", "resnet", "began"] = "dcgan"
    """Form of both networks. `began`: convolutional auto-encoder and decoder, for objectives of energies; those have
    perceptrons otherwise."""
    width: int = 64
    """Channels of the convolutional networks (next to the full side)."""
    hidden: int = 0
    """Width of a fully connected layer between the latent or the head and the maps (infoGAN: 1024); 0: none."""
    generator_widths: tuple[int, ...] = (256, 256)
    """Hidden layers of the perceptron."""
    critic_widths: tuple[int, ...] = (256, 256)
    """Hidden layers of the perceptron; of an auto-encoder's encoder, the last is the code."""
    generator_activation: str = "relu"
    """relu, leaky-relu, tanh, elu, smooth-elu, maxout-5."""
    critic_activation: str = "leaky-relu"
    """The same."""
    generator_norm: Literal["batch", "none"] = "batch"
    critic_norm: Literal["batch", "layer", "none"] = "batch"
    """Of the DCGAN; with a gradient penalty not `batch`."""
    input_noise: float = 0.0
    """Deviation of the noise on the perceptron critic's input (Salimans et al. 2016: 0.3)."""
    hidden_noise: float = 0.0
    """And before its later layers (0.5)."""
    dropout: float = 0.0
    """Share of the DCGAN critic's activations that are zeroed (ACGAN: 0.5)."""
    noise: int = 100
    """Numbers of the latent."""
    noise_kind: Literal["normal", "uniform"] = "normal"
    """N(0, 1) or U(-1, 1)."""
    codes: int = 0
    """infoGAN's continuous codes, U(-1, 1)."""

    batch: int = 64
    """Real samples of a critic step, and fakes."""
    generator_batch: int = 64
    """Fakes of a generator step."""
    labelled_batch: int = 100
    """Labelled samples of a critic step, for the semi-supervised objectives."""
    images: int = 640_000
    """Length: generator steps x batch."""
    optimiser: Literal["adam", "rmsprop", "sgd"] = "adam"
    rate: float = 2e-4
    """Learning rate of the critic."""
    generator_rate: float = 2e-4
    """Of the generator."""
    beta1: float = 0.5
    """Adam's."""
    beta2: float = 0.999
    """Adam's."""
    linear_decay: bool = False
    """Rates fall to 0 over the run (WGAN-GP's ResNet)."""
    average_decay: float = 0.0
    """Decay a step of the generator's weight average, which samples are drawn from; 0: the weights themselves."""

    critic_steps: int = 1
    """Before each generator step (WGAN, WGAN-GP: 5)."""
    bursts: bool = False
    """100 of them for the first 25 generator steps and each 500th (WGAN's released code)."""
    penalty_weight: float = 10.0
    """lambda of WGAN-GP and DRAGAN."""
    radius: float = 0.5
    """DRAGAN's noise, in deviations of the batch."""
    clip: float = 0.01
    """WGAN's c."""
    margin: float = 10.0
    """EBGAN's, in Euclidean norms of a whole sample."""
    pull_away_weight: float = 0.1
    """EBGAN-PT's."""
    gamma: float = 0.5
    """BEGAN's ratio of energies."""
    k_rate: float = 1e-3
    """BEGAN's lambda_k."""
    label_weight: float = 1.0
    """catGAN's weight of the labelled samples; 0: unsupervised."""
    class_weight: float = 1.0
    """ACGAN's weight of the class terms."""
    fake_class_weight: float = 1.0
    """And of the critic's on fakes: the paper's 1; 0 in many implementations."""
    information_weight: float = 1.0
    """infoGAN's lambda, of the discrete code."""
    continuous_weight: float = 1.0
    """And of the continuous ones."""
    pi: float = 0.3
    """Of f-GAN's weighted Jensen-Shannon divergence."""

    @property
    def field(self) -> str:
        """The data set's field that the game is about."""
        return "points" if self.form == "points" else "target"


BASE = Config()
WGAN_GP = replace(
    BASE,
    objective="wgan-gp",
    critic_norm="none",
    noise=128,
    batch=50,
    generator_batch=50,
    rate=1e-4,
    generator_rate=1e-4,
    beta2=0.9,
    critic_steps=5,
    images=10_000_000,
)
PERCEPTRON = replace(
    BASE,
    network="perceptron",
    generator_widths=(500, 500),
    critic_widths=(1000, 500, 250, 250, 250),
    noise_kind="uniform",
    batch=100,
    generator_batch=100,
    images=18_000_000,
)
POINTS = replace(
    BASE,
    form="points",
    network="perceptron",
    size=96,
    generator_widths=(128, 128),
    critic_widths=(128, 128),
    generator_norm="none",
    noise=2,
    batch=128,
    generator_batch=128,
    rate=5e-4,
    generator_rate=5e-4,
    images=640_000,
)

PRESETS: dict[str, Config] = {
    "nonsaturating": BASE,
    "minimax": replace(BASE, objective="minimax"),
    "lsgan": replace(BASE, objective="lsgan", noise=1024, rate=1e-3, generator_rate=1e-3),
    "wgan": replace(
        BASE, objective="wgan", optimiser="rmsprop", rate=5e-5, generator_rate=5e-5, critic_steps=5, bursts=True
    ),
    "wgan-gp": WGAN_GP,
    "wgan-gp-cifar10": replace(
        WGAN_GP,
        size=32,
        channels=3,
        network="resnet",
        width=128,
        batch=64,
        generator_batch=128,
        rate=2e-4,
        generator_rate=2e-4,
        beta1=0.0,
        linear_decay=True,
        images=6_400_000,
    ),
    "dragan": replace(
        BASE,
        objective="dragan",
        network="perceptron",
        generator_widths=(128,),
        critic_widths=(128,),
        generator_norm="none",
        noise_kind="uniform",
        batch=128,
        generator_batch=128,
        rate=1e-4,
        generator_rate=1e-4,
        beta2=0.9,
    ),
    "ebgan": replace(
        BASE,
        objective="ebgan",
        network="perceptron",
        generator_widths=(800, 800, 800, 800),
        critic_widths=(1024, 1024),
        critic_activation="relu",
        rate=1e-3,
        generator_rate=1e-3,
    ),
    "ebgan-pt": replace(
        BASE,
        objective="ebgan-pt",
        network="perceptron",
        generator_widths=(800, 800, 800, 800),
        critic_widths=(1024, 1024),
        critic_activation="relu",
        rate=1e-3,
        generator_rate=1e-3,
    ),
    "began": replace(
        BASE,
        objective="began",
        network="began",
        size=32,
        channels=3,
        noise=64,
        noise_kind="uniform",
        batch=16,
        generator_batch=16,
        rate=1e-4,
        generator_rate=1e-4,
        images=8_000_000,
    ),
    "catgan": replace(PERCEPTRON, objective="catgan", hidden_noise=0.5, input_noise=0.3),
    "sgan": replace(BASE, objective="sgan"),
    "salimans": replace(
        PERCEPTRON, objective="salimans", hidden_noise=0.5, input_noise=0.3, rate=3e-3, generator_rate=3e-3
    ),
    "acgan": replace(
        BASE, objective="acgan", size=32, channels=3, batch=100, generator_batch=100, dropout=0.5, images=5_000_000
    ),
    "infogan": replace(
        BASE,
        objective="infogan",
        hidden=1024,
        noise=62,
        noise_kind="uniform",
        codes=2,
        batch=128,
        generator_batch=128,
        generator_rate=1e-3,
        images=640_000,
    ),
    "fgan": replace(
        BASE,
        objective="fgan-kl",
        network="perceptron",
        generator_widths=(1200, 1200),
        critic_widths=(240, 240),
        critic_activation="elu",
        noise_kind="uniform",
        batch=4096,
        generator_batch=4096,
    ),
    "ring": POINTS,
    "grid": replace(POINTS, noise=32, images=1_280_000),
    "tiny": replace(
        BASE,
        size=16,
        channels=3,
        width=8,
        noise=8,
        classes=2,
        batch=4,
        generator_batch=4,
        labelled_batch=4,
        rate=1e-3,
        generator_rate=1e-3,
        images=48,
    ),
}
