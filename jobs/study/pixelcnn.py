"""PixelCNN measured: likelihood of digits, samples by class, what codes are worth, with pictures.

`--mnist` is a folder of idx files or an .npz, `--shoes` a folder of side-by-side pictures with splits train and val.
What is not named is left out: its figures are null. With the same options, runs in `--folder` that are finished are not
trained again, and others go on; runs of other lengths or of presets that have changed since are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from jobs.study.harness.folders import kept_in
from jobs.study.pixels import codes, digits
from jobs.study.pixels.runs import Place
from pipeline.tracking.journal import Tracker

LEAST = dict.fromkeys(("images", "binary_images", "code_images"), 0)
LEAST |= {"encoder_images": 4, "style_images": 16, "judge_images": 64}  # a batch
"""Option -> its smallest value."""


@dataclass(frozen=True)
class Config:
    """What is measured, and for how many pictures each network is trained."""

    mnist: str = ""
    """Handwritten digits; none: left out."""
    held_out: int = 5000
    """Training digits that are kept for the figures and sheets while training."""
    shoes: str = ""
    """Side-by-side pictures; none: left out."""
    input_side: Literal["left", "right"] = "left"
    """Which half of theirs is the drawing, which is not used."""
    weights: str = "torchvision"
    """VGG-19 checkpoint, to relu3_1 at least, of the shoes' style neighbours: path, URL, `torchvision`, `random`."""
    images: int = 150_000
    """8-bit digits by class. 0: left out."""
    binary_images: int = 50_000
    """Binarised digits. 0: left out."""
    code_images: int = 60_000
    """Digits of 16 pixels, each of the two auto-encoders. 0: left out."""
    encoder_images: int = 6_000
    """Anchors of StEP's encoder."""
    style_images: int = 12_000
    """Shoes of 32 pixels given their style codes."""
    judge_images: int = 120_000
    """Digits that the samples' judge learns from."""
    folder: str = ""
    """Where runs and sheets are kept; none: a temporary folder."""
    tracking: str | None = None
    """MLflow tracking URI; none: off."""
    threads: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the networks while they train; bf16 is faster where the processor has instructions for it."""

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)}: give at least {least}")


FIGURES = (
    "grey_bits_per_dim",
    "grey_class_gain",
    "class_samples_right",
    "judge_accuracy",
    "binary_nats",
    "own_code_bits_per_dim",
    "code_gap",
    "own_style_bits_per_dim",
    "style_gap",
)
PUBLISHED = """published: 8-bit MNIST 0.808 bits/dim, 852,160 parameters (UvA deep learning notebooks, tutorial 12);
binarised MNIST: PixelCNN 81.30 nats (van den Oord et al., ICML 2016), 81.45, gated 81.50 (pytorch-generative)"""


def run(config: Config) -> dict[str, Any]:
    """The figures, by name; each part's are printed as they come."""
    torch.set_num_threads(config.threads)
    print(PUBLISHED, flush=True)
    with kept_in(config.folder) as root, Tracker(root, config.tracking, job="study", name="pixelcnn") as tracker:
        found = _run(config, Place(root, tracker, config.tracking, config.threads, config.precision))
        tracker.scalars({name: float(value) for name, value in found.items() if value is not None}, 0)
    return found


def _run(config: Config, place: Place) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(FIGURES)

    def tell(part: dict[str, Any]) -> None:
        print(", ".join(f"{name} {value}" for name, value in part.items()), flush=True)
        found.update(part)

    if config.shoes:
        tell(
            codes.styles(
                place, config.shoes, config.input_side, config.weights, config.encoder_images, config.style_images
            )
        )
    if config.mnist:
        data = digits.sharded(place, config.mnist, config.held_out)
        if config.images:
            tell(digits.grey(place, config.mnist, data, config.images, config.judge_images))
        if config.binary_images:
            tell(digits.binary(place, data, config.binary_images))
        if config.code_images:
            tell(codes.auto_encoders(place, data, config.code_images))
    return found
