"""The demo source: crops of the photographs that scikit-image, scikit-learn and matplotlib ship. Targets are in colour,
inputs are the same crops in grey.

No download: the files lie in the installed packages. The photograph's name is a known style label. Training crops come
from the first 70 % of each photograph's longer side, validation crops from the rest: no pixel is in both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image

from pipeline.data import decode
from pipeline.data.samples import Entry, Field, Reader, Source

PHOTOGRAPHS = {
    "astronaut": "skimage/data/astronaut.png",
    "brick": "skimage/data/brick.png",
    "camera": "skimage/data/camera.png",
    "chelsea": "skimage/data/chelsea.png",
    "china": "sklearn/datasets/images/china.jpg",
    "coffee": "skimage/data/coffee.png",
    "coins": "skimage/data/coins.png",
    "flower": "sklearn/datasets/images/flower.jpg",
    "grass": "skimage/data/grass.png",
    "gravel": "skimage/data/gravel.png",
    "hubble": "skimage/data/hubble_deep_field.jpg",
    "ihc": "skimage/data/ihc.png",
    "moon": "skimage/data/moon.png",
    "motorcycle": "skimage/data/motorcycle_left.png",
    "retina": "skimage/data/retina.jpg",
    "rocket": "skimage/data/rocket.jpg",
}
"""Name -> file within the installed packages."""

HOPPER = {"hopper": "matplotlib/mpl-data/sample_data/grace_hopper.jpg"}
SEEN = ("astronaut", "china", "flower", "hubble", "ihc", "motorcycle", "retina", "rocket")
"""With `held_out="photographs"`: what training sees, all in colour."""
UNSEEN = ("brick", "camera", "chelsea", "coffee", "coins", "hopper")
"""And the photographs of split test; brick, camera and coins never had a colour."""

VERSION = 2
"""Of what the options give; the inputs of version 1 were edges."""
TRAIN_SHARE = 0.7
VAL_CROPS = 0.25
"""Validation crops per training crop."""
SMALLEST, ALMOST_WHOLE = 0.25, 0.75
"""Smallest side of a crop, as a share of the photograph's shorter side, with `held_out="photographs"`: of training and
validation, of test."""
PLAIN = 12.0
"""Deviation of a crop's grey levels (of 255) below which another one is drawn: skies, dark corners."""
TRIES = 50

Place = tuple[int, ...]
"""Top, left, and the side of a square where it is not the source's size; pixels."""


def _file(name: str) -> Path:
    package, _, rest = (PHOTOGRAPHS | HOPPER)[name].partition("/")
    found = find_spec(package)
    path = Path(str(found.origin)).parent / rest if found else Path(rest)
    if not path.is_file():
        raise ValueError(
            f"--source demo: {package}/{rest} is not there; install scikit-image, scikit-learn and matplotlib "
            "from their wheels"
        )
    return path


@lru_cache(maxsize=len(PHOTOGRAPHS) + len(HOPPER))
def photograph(name: str) -> np.ndarray:
    """RGB uint8 H W 3."""
    return decode.pixels(_file(name).read_bytes())


def grey(picture: np.ndarray) -> np.ndarray:
    """uint8 H W 3 -> its luma (ITU-R BT.601) in all three channels."""
    return np.repeat(np.asarray(Image.fromarray(picture).convert("L"))[..., None], 3, 2)


def region(shape: tuple[int, ...], split: str) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of the part of a picture H W ... that `split` may take crops from; `test`: all of it."""
    height, width = shape[:2]
    if split == "test":
        return (0, 0, height, width)
    if width >= height:
        cut = int(width * TRAIN_SHARE)
        return (0, 0, height, cut) if split == "train" else (0, cut, height, width)
    cut = int(height * TRAIN_SHARE)
    return (0, 0, cut, width) if split == "train" else (cut, 0, height, width)


@dataclass(frozen=True)
class Demo:
    """Crops `size` x `size`, `crops` a photograph for training, a quarter as many for validation.

    `held_out`: "regions", squares of that size of all of scikit-image's and scikit-learn's photographs; "photographs",
    squares from a quarter of the photograph to all of it, shrunk, of those in `SEEN`, plain ones passed over, and a
    split test of almost whole photographs in `UNSEEN`, as many of each as for validation.
    """

    size: int = 64
    crops: int = 60
    seed: int = 0
    held_out: Literal["regions", "photographs"] = "regions"
    left_out: Sequence[str] = ()

    @property
    def fields(self) -> dict[str, Field]:
        return {"input": Field("input"), "target": Field("target")}

    def samples(self) -> dict[str, list[Entry]]:
        """Crops of all photographs in turn, so that every shard holds every style.

        Raises:
            ValueError: a crop does not fit in the validation region, or there are fewer places than crops wanted.
        """
        few = max(1, round(self.crops * VAL_CROPS))
        if self.held_out == "regions":
            wanted = {"train": (tuple(PHOTOGRAPHS), self.crops), "val": (tuple(PHOTOGRAPHS), few)}
        else:
            wanted = {"train": (SEEN, self.crops), "val": (SEEN, few), "test": (UNSEEN, few)}
        draw = self._places if self.held_out == "regions" else self._views
        found: dict[str, list[Entry]] = {}
        for split, (names, count) in wanted.items():
            places = {name: ["-".join(map(str, place)) for place in draw(name, split, count)] for name in names}
            found[split] = [
                Entry(f"{name}/{split}-{place}", dict.fromkeys(("input", "target"), f"{name}/{place}"), name)
                for i in range(count)
                for name in names
                for place in [places[name][i]]
            ]
        return found

    def _places(self, name: str, split: str, count: int) -> list[Place]:
        """Top, left of squares of `size`, no place twice."""
        top, left, bottom, right = region(photograph(name).shape, split)
        rows, columns = bottom - top - self.size + 1, right - left - self.size + 1
        if self.size < 8 or rows < 1 or columns < 1 or rows * columns < count:
            raise self._too_large(name, split)
        chosen = self._generator(name, split).choice(rows * columns, size=count, replace=False)
        return [(top + int(c) // columns, left + int(c) % columns) for c in chosen]

    def _views(self, name: str, split: str, count: int) -> list[Place]:
        """Squares of many sizes, the logarithm of the side uniform."""
        picture = photograph(name)
        top, left, bottom, right = region(picture.shape, split)
        shorter, most = min(picture.shape[:2]), min(bottom - top, right - left)
        least = max(self.size, round(shorter * (ALMOST_WHOLE if split == "test" else SMALLEST)))
        if self.size < 8 or least > most:
            raise self._too_large(name, split)
        generator, levels = self._generator(name, split), grey(picture)[..., 0]

        def draw() -> Place:
            side = int(least * (most / least) ** generator.random())
            y, x = (int(generator.integers(room - side + 1)) for room in (bottom - top, right - left))
            return top + y, left + x, side

        def plain(place: Place) -> bool:
            y, x, side = place
            return bool(levels[y : y + side, x : x + side].std() < PLAIN)

        def shown() -> Place:
            place = draw()
            for _ in range(TRIES):
                if not plain(place):
                    break
                place = draw()
            return place

        return [shown() for _ in range(count)]

    def _generator(self, name: str, split: str) -> np.random.Generator:
        seed = hashlib.sha256(f"{self.seed}/{name}/{split}".encode()).digest()[:8]
        return np.random.default_rng(int.from_bytes(seed))

    def _too_large(self, name: str, split: str) -> ValueError:
        top, left, bottom, right = region(photograph(name).shape, split)
        return ValueError(
            f"--size {self.size} --crops {self.crops}: the {split} part of {name} is {right - left} x {bottom - top} "
            "pixels; choose a size of at least 8 that fits"
        )

    @property
    def reader(self) -> Reader:
        return self.read

    def read(self, path: str, member: str) -> bytes:
        """The crop's PNG: `path` is photograph/top-left, or photograph/top-left-side where it is shrunk to `size`."""
        name, _, place = path.partition("/")
        top, left, side = (*map(int, place.split("-")), self.size)[:3]
        crop = photograph(name)[top : top + side, left : left + side]
        if side != self.size:
            crop = decode.stretch(crop, self.size, self.size, nearest=False)
        return decode.to_png(grey(crop) if member == "input" else crop)


BUILT_IN = True


@dataclass(frozen=True)
class Options:
    """What is cut out of the photographs."""

    size: int = 64
    """Side of the crops, pixels."""
    crops: int = 60
    """Training crops a photograph."""
    seed: int = 0
    """Where the crops lie."""
    held_out: Literal["regions", "photographs"] = "regions"
    """A part of each photograph (split val), or also six photographs that training never sees (split test)."""
    version: int = 1
    """Of the source; set by itself. 1: before it was written down."""

    ADDED: ClassVar[tuple[str, ...]] = ()


def open_source(place: str, options: Options) -> Source:
    """Raises ValueError: options of another version."""
    if options.version != VERSION:
        raise ValueError(
            f"--source demo: the data set is of the demo's version {options.version}, whose inputs were edges; this is "
            f"version {VERSION}, whose inputs are grey: shard it into another folder"
        )
    return Demo(options.size, options.crops, options.seed, options.held_out)


def read_only(place: str, options: Options) -> Reader:
    return open_source(place, options).reader
