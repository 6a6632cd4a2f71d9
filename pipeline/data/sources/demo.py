"""The demo source: crops of the photographs that scikit-image and scikit-learn ship, with edge maps as inputs.

No download: the files lie in the installed packages. The photograph's name is a known style label. Training crops come
from the first 70 % of each photograph's longer side, validation crops from the rest: no pixel is in both.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

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

TRAIN_SHARE = 0.7
VAL_CROPS = 0.25
"""Validation crops per training crop."""


def _file(name: str) -> Path:
    package, _, rest = PHOTOGRAPHS[name].partition("/")
    found = find_spec(package)
    path = Path(str(found.origin)).parent / rest if found else Path(rest)
    if not path.is_file():
        raise ValueError(
            f"--source demo: {PHOTOGRAPHS[name]} is not there; install scikit-image and scikit-learn from their wheels"
        )
    return path


@lru_cache(maxsize=len(PHOTOGRAPHS))
def photograph(name: str) -> tuple[np.ndarray, np.ndarray]:
    """RGB uint8 H W 3 and its edges uint8 H W, black on white (Canny on the whole picture: no edge at crop borders)."""
    from skimage.color import rgb2gray
    from skimage.feature import canny

    picture = decode.pixels(_file(name).read_bytes())
    edges = canny(rgb2gray(picture), sigma=1.5)
    return picture, np.where(edges, 0, 255).astype(np.uint8)


def region(shape: tuple[int, ...], split: str) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of the part of a picture H W ... that `split` may take crops from."""
    height, width = shape[:2]
    if width >= height:
        cut = int(width * TRAIN_SHARE)
        return (0, 0, height, cut) if split == "train" else (0, cut, height, width)
    cut = int(height * TRAIN_SHARE)
    return (0, 0, cut, width) if split == "train" else (cut, 0, height, width)


@dataclass(frozen=True)
class Demo:
    """Crops `size` x `size`, `crops` a photograph for training, a quarter as many for validation."""

    size: int = 64
    crops: int = 60
    seed: int = 0
    other_files: int = 0

    @property
    def fields(self) -> dict[str, Field]:
        return {"input": Field("input"), "target": Field("target")}

    def samples(self) -> dict[str, list[Entry]]:
        """Crops of all photographs in turn, so that every shard holds every style.

        Raises:
            ValueError: a crop does not fit in the validation region, or there are fewer places than crops wanted.
        """
        found: dict[str, list[Entry]] = {}
        for split, count in (("train", self.crops), ("val", max(1, round(self.crops * VAL_CROPS)))):
            places = {name: self._places(name, split, count) for name in PHOTOGRAPHS}
            found[split] = [
                Entry(
                    f"{name}/{split}-{top}-{left}",
                    {"input": f"{name}/{top}-{left}", "target": f"{name}/{top}-{left}"},
                    name,
                )
                for i in range(count)
                for name in PHOTOGRAPHS
                for top, left in [places[name][i]]
            ]
        return found

    def _places(self, name: str, split: str, count: int) -> list[tuple[int, int]]:
        top, left, bottom, right = region(photograph(name)[0].shape, split)
        rows, columns = bottom - top - self.size + 1, right - left - self.size + 1
        if self.size < 8 or rows < 1 or columns < 1 or rows * columns < count:
            raise ValueError(
                f"--size {self.size} --crops {self.crops}: the {split} part of {name} is "
                f"{right - left} x {bottom - top} pixels; choose a size of at least 8 that fits"
            )
        seed = hashlib.sha256(f"{self.seed}/{name}/{split}".encode()).digest()[:8]
        generator = np.random.default_rng(int.from_bytes(seed))
        chosen = generator.choice(rows * columns, size=count, replace=False)
        return [(top + int(c) // columns, left + int(c) % columns) for c in chosen]

    @property
    def reader(self) -> Reader:
        return self.read

    def read(self, path: str, member: str) -> bytes:
        """The crop's PNG: `path` is photograph/top-left."""
        name, _, place = path.partition("/")
        top, left = (int(part) for part in place.split("-"))
        picture, edges = photograph(name)
        chosen = edges if member == "input" else picture
        return decode.to_png(chosen[top : top + self.size, left : left + self.size])


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

    ADDED: ClassVar[tuple[str, ...]] = ()


def open_source(place: str, options: Options) -> Source:
    return Demo(options.size, options.crops, options.seed)


def read_only(place: str, options: Options) -> Reader:
    return open_source(place, options).reader
