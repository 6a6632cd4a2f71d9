"""What is trained: the recipe and its presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from models.family import Recipe


@dataclass(frozen=True)
class Config(Recipe):
    """Defaults: deeper LSTM Q + norm I as Antol et al. describe it. Lengths in questions (or pairs) seen."""

    LENGTHS: ClassVar[tuple[str, ...]] = ("questions",)

    size: int = 448
    """Of pictures on sheets, pixels; the networks see features. Source: DAN (224 in Antol et al.)."""
    fit: Literal["cover", "stretch", "pad"] = "stretch"
    """As the features' grid lies on the picture. Source: released code."""

    network: Literal["baseline", "r-dan", "m-dan"] = "baseline"
    """Antol et al.'s channels, or a Dual Attention Network: for answers (r-DAN), for matching (m-DAN)."""
    question: Literal["none", "bow", "lstm"] = "lstm"
    """Baseline: how the question is encoded."""
    layers: int = 2
    """Baseline: LSTM layers; 1 is LSTM Q, 2 deeper LSTM Q. Source: the paper."""
    image: Literal["none", "plain", "norm"] = "norm"
    """Baseline: the image's vector, as it is or l2-normalised."""
    fusion: Literal["none", "concatenation", "product"] = "product"
    """Baseline: how both channels are joined. Source: the paper (BoW: concatenation, LSTM: product)."""
    direct: bool = False
    """Baseline: whether the question has no layer before the product. Source: the paper, for one LSTM layer."""
    common: int = 1000
    """Bag of words: words that are counted. Source: the paper."""
    openers: int = 10
    """Bag of words: most frequent first, second and third words. Source: the paper."""
    embedding: int = 300
    """Width of a word's vector. Source: the paper (released code 200, DAN 512)."""
    hidden: int = 512
    """Width of the LSTM, and of all of DAN. Source: both papers."""
    joint: int = 1024
    """Width of the product. Source: the paper."""
    mlp: tuple[int, ...] = (1000, 1000)
    """Hidden layers of the classifier. Source: the paper (released code: none)."""
    steps: int = 2
    """K of DAN. Source: the paper."""
    answers: int = 1000
    """Answers that can be given, the most frequent ones. Source: the paper (DAN 2,000)."""
    even: float = 0.4
    """Features of images are scaled so that their root mean square is this; 0: they stay as they are. Source: none; raw
    activations of a VGG leave tanh flat, and an attention that begins with them does not learn."""
    longest: int = 26
    """Words of a text; the rest is cut. Source: released code."""
    dropout: float = 0.5
    """Of the classifier's inputs or hidden layers, and throughout DAN. Source: both papers."""
    dropout_inputs: float = 0.0
    """Of word vectors, between LSTM layers and before the product. Source: released code 0.5, the paper none."""
    margin: float = 100.0
    """m of m-DAN's loss. Source: the paper."""
    uniform: float = 0.0
    """First weights even in plus or minus this; 0: by each layer's inputs (PyTorch's). Source: released code 0.08."""

    optimiser: Literal["rmsprop", "sgd"] = "rmsprop"
    """Source: released code; DAN: sgd with momentum 0.9."""
    batch: int = 500
    """Questions a step. Source: released code (DAN 128)."""
    rate: float = 3e-4
    """Learning rate. Source: released code (DAN 0.1)."""
    smoothing: float = 0.99
    """RMSProp's, of squared gradients. Source: released code."""
    halve_every: float = 0.0
    """Questions in which the rate falls by half, smoothly; 0: never. Source: released code, 0.99997592083 a step."""
    drop_at: int = 0
    """Questions after which the rate is a tenth; 0: never. Source: DAN (after 30 epochs)."""
    weight_decay: float = 0.0
    """Source: DAN 5e-4."""
    clip_value: float = 0.0
    """Gradients are cut to plus or minus this; 0: not. Source: released code 10."""
    clip_norm: float = 0.0
    """The gradient is scaled to at most this norm; 0: not. Source: DAN 0.1."""
    questions: int = 75_000_000
    """Questions seen (150,000 steps of 500). Source: released code."""


PAPER = Config()
BOW_Q = replace(PAPER, question="bow", image="none", fusion="none")
LSTM_Q = replace(BOW_Q, question="lstm", layers=1)
DAN = replace(
    PAPER,
    network="r-dan",
    embedding=512,
    answers=2000,
    optimiser="sgd",
    batch=128,
    rate=0.1,
    weight_decay=5e-4,
    clip_norm=0.1,
    # 60 epochs of v1's 369,861 questions of train and val, the rate lower after 30.
    questions=60 * 369_861,
    drop_at=30 * 369_861,
)
PRESETS: dict[str, Config] = {
    "i": replace(BOW_Q, question="none", image="plain"),
    "bow-q": BOW_Q,
    "bow-q-i": replace(BOW_Q, image="plain", fusion="concatenation"),
    "lstm-q": LSTM_Q,
    "lstm-q-i": replace(LSTM_Q, image="plain", fusion="product", direct=True),
    "deeper-lstm-q": replace(LSTM_Q, layers=2),
    "deeper-lstm-q-norm-i": PAPER,
    # The released code differs from the paper: narrower words, no hidden layers, dropout of all inputs.
    "deeper-lstm-q-norm-i-released": replace(
        PAPER,
        embedding=200,
        mlp=(),
        dropout_inputs=0.5,
        uniform=0.08,
        halve_every=28785.0 * 500,  # 0.99997592083 a step: by half in 28,785 steps
        clip_value=10.0,
    ),
    "r-dan": DAN,
    # 60 epochs of Flickr30K's 29,783 images with five sentences each.
    "m-dan": replace(DAN, network="m-dan", questions=60 * 5 * 29_783, drop_at=30 * 5 * 29_783),
    "tiny": replace(
        DAN, hidden=8, answers=8, batch=4, size=32, clip_norm=1.0, questions=32, drop_at=0, weight_decay=0.0
    ),
    "tiny-bow-q": replace(BOW_Q, common=8, openers=2, mlp=(8,), answers=8, batch=4, size=32, rate=0.01, questions=32),
}
