"""Conditional IMLE: what is trained, and the presets."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from models.family import PerceptualRecipe
from models.imle.networks import ENCODER_WIDTH


@dataclass(frozen=True)
class Config(PerceptualRecipe):
    """The paper's values, as its released code has them (GTA-5, 256 x 512); lengths in pictures seen."""

    LENGTHS: ClassVar[tuple[str, ...]] = ("crn_images", "imle_images", "settle_images")

    aspect: int = 2
    """Width over height. Source: released code."""
    perceptual_net: Literal["vgg16", "vgg19"] = "vgg19"
    """Source: released code."""
    perceptual_preprocessing: Literal["imagenet", "caffe"] = "caffe"
    """Source: released code."""
    perceptual_pooling: Literal["max", "average"] = "average"
    """Source: released code."""
    perceptual_factors: Literal["paper", "calibrated"] = "paper"
    """lambda_l: the released code's, which hold for Caffe's VGG-19 alone, or 1 / mean distance of random training
    pairs at that layer (ours)."""
    perceptual_pairs: int = 64
    """Random training pairs that the calibration looks at. Ours."""

    condition: Literal["labels", "image"] = "labels"
    """What the inputs are: label ids, or pictures (edges). Ours: the paper has labels."""
    labels: int = 20
    """Label channels. Source: released code (19 Cityscapes classes and one for all others)."""
    other: bool = True
    """The last label channel takes every id from there on. Source: released code."""
    widths: tuple[int, ...] = (1024, 1024, 1024, 1024, 1024, 512, 512)
    """Channels of the refinement modules, at heights 4, 8, 16, ... Source: released code."""
    noise: int = 10
    """Noise channels. Source: released code."""
    noise_encoder: bool = True
    """Whether a small network encodes the noise beside the condition. Source: the paper."""
    encoder_width: int = ENCODER_WIDTH
    """Its channels. Source: released code."""

    batch: int = 1
    """Pairs a step. Source: released code."""
    rate: float = 1e-4
    """Adam's learning rate in `crn` and `imle`. Source: released code."""
    settle_rate: float = 1e-5
    """Adam's learning rate in `settle`. Source: released code."""
    crn_images: int = 0
    """Pictures seen in stage crn. Ours: the published run took the baseline's released weights."""
    imle_images: int = 60_000
    """Pictures seen in stage imle (6 rounds of 10,000 steps). Source: released code."""
    settle_images: int = 100_000
    """Pictures seen in stage settle (10 rounds). Source: released code."""
    samples: int = 10
    """m: candidates of each pair in a search. Source: released code."""
    set_size: int = 400
    """Pairs searched at once and trained on until the next search. Source: released code."""
    set_batch: int = 4
    """Pairs of it that are drawn at a time (split between the workers). Ours."""
    refresh_steps: int = 10_000
    """Steps between two searches. Source: released code."""
    search_batch: int = 5
    """Candidates in one forward pass of a search. Ours: it bounds memory, and may move the last bits."""
    search: Literal["exact", "projected"] = "exact"
    """projected: count-sketches of the features nominate candidates, exact distances decide. Source: HyperRIM and
    CAM-Net project (by stored matrices), without deciding exactly."""
    projection: int = 1000
    """Numbers that a projected search compares by, shared evenly by the layers. Source: CAM-Net."""
    rerank: int = 5
    """Candidates that it nominates. Ours."""
    epsilon: float = 0.0
    """Candidates nearer than this to their target, in units of the distance, may not be chosen; where all are, the
    furthest is. Source: RS-IMLE (Vashist, Peng, Li, ECCV 2024; its 0.1 is in another metric's units)."""
    adaptive_gamma: float = 0.0
    """Above 0: S is drawn once, and a pair is searched again when its distance falls below its threshold, which is then
    lowered by this share. Source: Adaptive IMLE (Aghabozorgi, Peng, Li, ICML 2023), released code: 0.01 to 0.04."""
    adaptive_staleness: int = 5
    """Searches after which a pair may be due at the earliest, with thresholds. Source: the same."""
    adaptive_force: int = 15
    """Searches after which it is due in any case. Source: the same (15 to 30)."""
    level_samples: tuple[int, ...] = ()
    """Candidates a level, coarse to fine, of a search level by level; the last so many levels have noise and a picture
    of their own. None: one search for all. Source: CHIMLE (Peng, Moazeni, Li, NeurIPS 2022): 200 200 20 10."""
    rarity_classes: int = 5
    """With a rarity artifact, S is drawn by the rarity of so many classes in turn, the largest by area; 0: evenly.
    Source: released code (road, building, sky, other, sidewalk)."""
    rarity_mask: bool = True
    """With a rarity artifact, whether it weighs the distance's pixels too. Source: the paper."""
    jitter: float = 0.0
    """Deviation of the noise added to the chosen noise at each step. Source: IMLE (Li & Malik, 2018): 0.01."""
    average_decay: float = 0.0
    """Decay of the weight averages, per step; 0: none. Ours."""
    average_warm_up: bool = False
    """Use min(decay, (1 + t) / (10 + t)) at step t, for short runs. Ours."""
    augment: tuple[float, ...] = (1.0,)
    """Equally likely scales before the random crop. Ours: the paper has none."""

    @property
    def candidates(self) -> dict[str, Any]:
        return {"noise": self.noise, "frame": list(self.frame), "levels": max(1, len(self.level_samples))}


PAPER = Config()
PRESETS: dict[str, Config] = {
    "paper": PAPER,
    "facades": replace(PAPER, aspect=1, labels=12, other=False, perceptual_factors="calibrated", set_batch=8),
    # 430 partial pictures a search in place of 8,000,000 whole ones.
    "chimle": replace(
        PAPER,
        aspect=1,
        labels=12,
        other=False,
        perceptual_factors="calibrated",
        noise=5,
        noise_encoder=False,
        level_samples=(200, 200, 20, 10),
        imle_images=200_000,
        settle_images=0,
        set_batch=8,
    ),
    # As the other families': at most 3 million weights in G, about 15 minutes on one core for 400 pairs.
    "small": replace(
        PAPER,
        size=128,
        aspect=1,
        fit="stretch",
        perceptual_preprocessing="imagenet",
        perceptual_pooling="max",
        perceptual_layers=("relu1_2", "relu2_2", "relu3_1"),
        perceptual_factors="calibrated",
        condition="image",
        widths=(96, 96, 96, 64, 32, 16),
        encoder_width=16,
        batch=2,
        rate=1e-3,
        imle_images=1_800,
        settle_images=0,
        set_size=100,
        set_batch=4,
        refresh_steps=300,
        search_batch=10,
        average_decay=0.99,
        average_warm_up=True,
        augment=(286 / 256,),
    ),
    # For `jobs.study modes`: 32 pixels, pixels alone as distance, a few minutes on a CPU.
    "modes": replace(
        PAPER,
        size=32,
        aspect=1,
        perceptual_layers=(),
        perceptual_factors="calibrated",
        labels=3,
        other=False,
        widths=(48, 48, 32, 24),
        noise=4,
        encoder_width=16,
        batch=16,
        rate=2e-3,
        settle_images=0,
        samples=20,
        set_size=80,
        set_batch=16,
        refresh_steps=20,
        search_batch=20,
        average_decay=0.99,
        average_warm_up=True,
    ),
    "tiny": replace(
        PAPER,
        size=16,
        aspect=1,
        perceptual_layers=(),
        perceptual_factors="calibrated",
        condition="image",
        widths=(8, 8, 8),
        noise=2,
        encoder_width=4,
        batch=4,
        rate=1e-3,
        imle_images=32,
        settle_images=16,
        samples=4,
        set_size=8,
        set_batch=4,
        refresh_steps=4,
        search_batch=4,
    ),
}
