"""StEP: what is trained, and the presets."""

from dataclasses import dataclass, replace
from typing import ClassVar

from models.family import PerceptualRecipe


@dataclass(frozen=True)
class Config(PerceptualRecipe):
    """The paper's values, as its released code has them (edges2shoes); lengths in images seen."""

    LENGTHS: ClassVar[tuple[str, ...]] = ("encoder_images", "generator_images", "finetune_images", "mapper_epochs")
    SCALED: ClassVar[tuple[str, ...]] = (
        "encoder_images",
        "generator_images",
        "generator_constant",
        "finetune_images",
        "finetune_constant",
    )

    code: int = 8
    """Entries of the style code z. Source: released code, app_vector_size."""
    encoder_width: int = 64
    """Channels after E's first convolution; then x2, x3, x4. Source: released code."""
    generator_width: int = 32
    """Channels at full size in G (nf). Source: released code's README."""
    generator_blocks: int = 4
    """Residual blocks at the bottleneck, in the content encoder and again in the decoder. Source: released code."""
    discriminator_width: int = 32
    """Channels of D's first layer. Source: released code, d_nf."""
    discriminator_layers: int = 3
    """Stride-2 convolutions of each scale of D. Source: released code."""
    discriminator_scales: int = 3
    """Scales of D, each half as wide as the one before. Source: released code."""
    mapper_width: int = 128
    """Units of M's three hidden layers. Source: released code."""

    encoder_images: int = 240_000
    """Anchors seen in the encoder stage (20,000 steps of 12). Ours: the paper trains until the loss levels off."""
    encoder_batch: int = 12
    """Triplets a step. Source: released code."""
    encoder_rate: float = 1e-3
    """Adam's learning rate for E alone, constant. Source: released code."""
    margin: float = 0.1
    """alpha of the triplet loss, squared code distance. Source: released code."""
    code_weight: float = 0.01
    """Weight of mean z^2, in the encoder stage and with G. Source: released code, w_loss_z_l2."""

    batch: int = 8
    """Pictures a step with G. Source: released code's README."""
    rate: float = 1e-3
    """Adam's learning rate of G and D, and of E in the finetune stage (a quirk: its 1e-4 is not used there).
    Source: README."""
    beta1: float = 0.0
    """Adam's first moment, E, G and D. Source: released code."""
    beta2: float = 0.99
    """Adam's second moment, E, G and D. Source: released code."""
    generator_images: int = 250_000
    """Pictures seen in the generator stage. Source: README."""
    generator_constant: int = 150_000
    """Pictures of that stage before the learning rate falls. Source: README."""
    finetune_images: int = 450_000
    """Pictures seen in the finetune stage (250k to 700k there). Source: README."""
    finetune_constant: int = 350_000
    """Pictures of that stage before the learning rate falls (600k there, counted from the start). Source: README."""
    finetune_encoder: bool = True
    """Whether the finetune stage moves E too. Off: it goes on with G alone, as a control. Ours."""
    decay_stretch: float = 1.1
    """The linear decay would reach 0 after this multiple of the falling stretch. Source: released code (110 / 100)."""
    average_decay: float = 0.999
    """Decay of the weight averages of G and E, per step. Source: released code."""
    average_warm_up: bool = False
    """Use min(decay, (1 + t) / (10 + t)) at step t, for short runs. Ours; off in the released code."""
    augment: tuple[float, ...] = (1.0,)
    """Equally likely scales before the random crop. Source: released code (edges2shoes: none)."""

    perceptual_weight: float = 0.02
    """Weight of the perceptual loss. Source: released code, w_loss_vgg."""
    perceptual_value: float = 0.0
    """0: the paper's factors of the layers, for Caffe's VGG-16. Above 0, for other weights: each layer is rescaled so
    that random training pairs give this value (before `perceptual_weight`). Ours."""
    perceptual_pairs: int = 64
    """Random training pairs that the rescaling looks at. Ours."""

    pixel_weight: float = 0.0
    """Weight of an L1 of pixels. Source: released code (10 where the perceptual loss is off, use_vgg_loss)."""
    vae: bool = False
    """Whether E is variational: while E or G is trained, a code is drawn around the mean; used, it is the mean. Source:
    released code, use_vae."""
    kl_weight: float = 0.0
    """Weight of the divergence of E's codes from N(0, I), while E is trained. Source: released code, loss_z_kl
    (0.01)."""
    code_recon_weight: float = 0.0
    """Weight of the L1 between a code and E's of the picture made with it. Source: released code, loss_z_recon (10)."""
    random_code_weight: float = 0.0
    """The same of random codes. Source: released code, loss_z_rand_recon (10)."""
    random_gan_weight: float = 0.0
    """Weight of the GAN terms of pictures with random codes. Source: released code, loss_D_rand_z."""
    swapped_gan_weight: float = 0.0
    """Weight of the GAN terms of pictures with another target's code. Source: released code, loss_D_swap_z."""
    cycle_weight: float = 0.0
    """Weight of the perceptual loss of a target that is rebuilt by the code of the picture that its code was given to.
    Source: released code, loss_cyclic_recon."""
    cycle_gan_weight: float = 0.0
    """Weight of the GAN terms of such pictures. Source: released code, loss_D_cyclic."""

    mapper_epochs: int = 500
    """Epochs over the codes. Source: released code."""
    mapper_batch: int = 64
    """Codes a step. Source: released code."""
    mapper_rate: float = 1e-2
    """Adam's learning rate of M. Source: released code."""
    mapper_decay: float = 0.7
    """M's learning rate is multiplied by this every `mapper_decay_epochs`. Source: released code."""
    mapper_decay_epochs: int = 50
    """Epochs between two such steps. Source: released code."""
    mapper_refresh_epochs: int = 5
    """Epochs between two searches for matches (staleness). Source: released code."""
    mapper_pool: int = 10
    """New noise vectors per code at each search. Source: released code."""
    mapper_noise: float = 0.01
    """Deviation of the noise added to the matched vectors. Source: released code."""


PAPER = Config()
PRESETS: dict[str, Config] = {
    "paper": PAPER,
    # Widths and scales as in the authors' runs; length ours (their schedule for facades is not known): 400 epochs.
    "facades": replace(
        PAPER,
        generator_width=16,
        augment=(1.0, 1.25, 1.25, 1.5),
        encoder_images=120_000,
        generator_images=80_000,
        generator_constant=48_000,
        finetune_images=80_000,
        finetune_constant=48_000,
    ),
    # As the other families': at most 3 million weights in G, about 15 minutes on one core for 400 pairs.
    "small": replace(
        PAPER,
        size=128,
        fit="stretch",
        encoder_width=16,
        generator_width=16,
        generator_blocks=1,
        discriminator_width=16,
        discriminator_scales=2,
        encoder_images=4_800,
        margin=2.0,  # as in preset demo
        batch=2,
        rate=3e-3,
        generator_images=1_800,
        generator_constant=1_200,
        finetune_images=900,
        finetune_constant=450,
        average_decay=0.99,
        average_warm_up=True,
        augment=(286 / 256,),
        perceptual_net="vgg19",
        perceptual_layers=("relu1_2", "relu2_2", "relu3_1"),
        perceptual_value=150.0,
        mapper_epochs=100,
        mapper_decay_epochs=20,
    ),
    "demo": replace(
        PAPER,
        size=64,
        encoder_width=16,
        generator_width=16,
        generator_blocks=2,
        discriminator_width=16,
        discriminator_scales=2,
        encoder_images=4_800,
        margin=2.0,  # at 0.1 the codes end up so close together that a short G does not learn to read them
        rate=3e-3,
        generator_images=4_800,
        generator_constant=3_000,
        finetune_images=1_200,
        finetune_constant=600,
        average_decay=0.99,
        average_warm_up=True,
        perceptual_net="vgg19",
        perceptual_layers=("relu1_2", "relu2_2", "relu3_1"),
        perceptual_value=150.0,
        mapper_epochs=100,
        mapper_decay_epochs=20,
    ),
    "tiny": replace(
        PAPER,
        size=16,
        encoder_width=4,
        generator_width=4,
        generator_blocks=1,
        discriminator_width=4,
        discriminator_scales=1,
        encoder_batch=4,
        encoder_images=16,
        batch=4,
        generator_images=16,
        generator_constant=8,
        finetune_images=16,
        finetune_constant=8,
        perceptual_net="vgg19",
        perceptual_layers=("relu1_2",),
        perceptual_value=10.0,
        perceptual_pairs=8,
        mapper_width=16,
        mapper_batch=4,
        mapper_epochs=10,
    ),
}
