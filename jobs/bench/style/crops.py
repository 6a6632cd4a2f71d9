"""Many crops of few real pictures, described and kept as a descriptor artifact: what a style index is measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.common.vgg import VGG
from pipeline.artifacts import artifact
from pipeline.data import decode, tensors
from pipeline.data.sources.demo import PHOTOGRAPHS, photograph
from pipeline.style import descriptors
from pipeline.style.descriptors import Describer
from pipeline.style.vectors import groups, schema

Array = np.ndarray
SIZE = 64
PART = 1000
"""Crops a part."""
RELU3_1 = ("relu1_2", "relu2_2", "relu3_1")
"""Layers of the descriptors: 43,232 numbers."""


def pictures(source: str) -> list[Array]:
    """`demo`, a folder (searched to its depths), or `FOLDER:left` / `FOLDER:right` where pictures lie side by side."""
    if source == "demo":
        return [photograph(name) for name in PHOTOGRAPHS]
    folder, _, side = source.partition(":")
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in decode.EXTENSIONS)
    if not paths:
        raise ValueError(f"--sets {source}: no pictures there")
    found = [decode.pixels(path.read_bytes()) for path in paths]
    return [decode.half(picture, side) if side else picture for picture in found]


def whole(picture: Array) -> Array:
    """The centre square, at 64 pixels."""
    return descriptors.prepare(picture, SIZE, SIZE)


def crop(picture: Array, generator: np.random.Generator) -> Array:
    """A square of 64 to 256 pixels somewhere, at 64; mirrored every other time."""
    h, w = picture.shape[:2]
    side = int(generator.integers(min(SIZE, h, w), min(256, h, w) + 1))
    top, left = int(generator.integers(h - side + 1)), int(generator.integers(w - side + 1))
    cut = descriptors.prepare(picture[top : top + side, left : left + side], SIZE, SIZE)
    return cut[:, ::-1] if generator.random() < 0.5 else cut


def crops(found: Sequence[Array], first: int, stop: int, seed: int) -> Iterator[Array]:
    """Crops `first` to `stop` of an endless row: each is a function of its number and the seed alone."""
    for number in range(first, stop):
        generator = np.random.default_rng([seed, number])
        yield crop(found[int(generator.integers(len(found)))], generator)


def describe(images: Sequence[Array], describer: Describer) -> Array:
    """float32 n D."""
    batches = (images[start : start + 32] for start in range(0, len(images), 32))
    return np.concatenate([describer(tensors.pictures_to_tensor(batch)).numpy() for batch in batches])


def kept(folder: str, found: Sequence[Array], count: int, net: VGG, weights: str, seed: int) -> None:
    """An artifact of `count` crops' descriptors in `folder`; parts that are there are not made again."""
    inputs = {"crops": count, "pictures": len(found), "weights": weights, "seed": seed}
    _keep(folder, inputs, count, lambda first, stop: list(crops(found, first, stop, seed)), net, weights)


def kept_images(folder: str, images: Sequence[Array], net: VGG, weights: str) -> None:
    """An artifact of the descriptors of `images` (64 pixels each) in `folder`, which jobs.neighbours takes."""
    content = hashlib.sha256(b"".join(np.ascontiguousarray(image).tobytes() for image in images)).hexdigest()
    inputs = {"dataset": content, "split": "train", "weights": weights}
    _keep(folder, inputs, len(images), lambda first, stop: images[first:stop], net, weights)


def _keep(
    folder: str,
    inputs: dict[str, Any],
    count: int,
    images: Callable[[int, int], Sequence[Array]],
    net: VGG,
    weights: str,
) -> None:
    if artifact.begin(folder, "descriptors", descriptors.VERSION, inputs, {"size": SIZE}):
        return
    describer = Describer(net)
    parts = range(-(-count // PART))
    form = schema(describer.dimension)
    for part in sorted(set(parts) - artifact.done_parts(folder)):
        first, stop = part * PART, min(count, (part + 1) * PART)
        vectors = describe(images(first, stop), describer)
        rows = ((f"{first + i:08d}", vector, "") for i, vector in enumerate(vectors))
        artifact.publish_rows(folder, part, form, groups(rows, describer.dimension))
    artifact.finish(folder, parts, {"bad": 0, "weights": weights, "random_weights": weights.startswith("random")})
