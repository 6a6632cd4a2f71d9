"""Two ellipses on a background, in one of four colourings: a set whose plausible outputs are all known.

    python -m jobs.shard --source colourings --option size 64 --output DATASET

The input shows where the ellipses are; the target is one of the four colourings of it, drawn by `shares`. `truths`
holds all four.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from pipeline.data import decode
from pipeline.data.samples import Entry, Field, Reader, Source

BUILT_IN = True
SIDE = 32
"""Side of the plane that the ellipses are placed in."""
COLOURINGS = np.array(
    [
        [(20, 20, 20), (220, 60, 50), (240, 200, 60)],
        [(235, 235, 235), (50, 90, 220), (60, 190, 90)],
        [(90, 50, 120), (240, 150, 190), (250, 250, 250)],
        [(60, 110, 110), (250, 170, 40), (30, 30, 140)],
    ],
    dtype=np.uint8,
)
"""Four colourings of background, first and second ellipse."""
SHOWN = np.array([(0, 0, 0), (128, 128, 128), (255, 255, 255)], dtype=np.uint8)
"""Background and ellipses of an input that is a picture."""
HELD_OUT = 10_000_000
"""Number of the first layout that is not trained on."""


def layout(number: int, size: int = SIDE) -> np.ndarray:
    """Label ids `size size`: background 0, ellipses 1 and 2 (the second on top), placed by `number`."""
    random = np.random.default_rng(number)
    y, x = (np.mgrid[:size, :size] + 0.5) * (SIDE / size)
    ids = np.zeros((size, size), np.uint8)
    for label in (1, 2):
        centre, radii = random.uniform(8, SIDE - 8, 2), random.uniform(5, 11, 2)
        angle = random.uniform(0, math.pi)
        u = (x - centre[0]) * math.cos(angle) + (y - centre[1]) * math.sin(angle)
        v = (y - centre[1]) * math.cos(angle) - (x - centre[0]) * math.sin(angle)
        ids[(u / radii[0]) ** 2 + (v / radii[1]) ** 2 < 1] = label
    return ids


@dataclass(frozen=True)
class Options:
    """How many samples there are, and how they look."""

    count: int = 400
    """Training samples."""
    held_out: int = 100
    """Samples of split `val`."""
    size: int = SIDE
    """Side, pixels."""
    input: Literal["image", "labels"] = "image"
    """What the inputs are: grey pictures, or label maps."""
    shares: str = "1,1,1,1"
    """How often each colouring is the observed one: numbers in proportion, such as 0.7,0.1,0.1,0.1."""
    seed: int = 0
    """Which colourings are observed; the layouts are the same for all seeds."""

    ADDED: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class Colourings:
    """The samples of the options."""

    options: Options
    left_out: Sequence[str] = ()

    def __post_init__(self) -> None:
        o = self.options
        if o.count < 1 or o.held_out < 1 or o.size < 16:
            raise ValueError(
                f"--option count {o.count}, held_out {o.held_out}, size {o.size}: give at least 1, 1 and 16"
            )
        shares = self._shares()
        if len(shares) != len(COLOURINGS) or min(shares) < 0 or not 0 < sum(shares) < math.inf:
            raise ValueError(f"--option shares {o.shares}: give {len(COLOURINGS)} numbers, not all of them 0")

    def _shares(self) -> list[float]:
        try:
            return [float(share) for share in self.options.shares.split(",")]
        except ValueError:
            return []

    @property
    def fields(self) -> dict[str, Field]:
        return {
            "input": Field("input", kind=self.options.input),
            "target": Field("target"),
            "truths": Field("truths", kind="array"),
        }

    def samples(self) -> dict[str, list[Entry]]:
        o, shares = self.options, self._shares()
        found = {}
        for split, first, count in (("train", 0, o.count), ("val", HELD_OUT, o.held_out)):
            random = np.random.default_rng(o.seed if split == "train" else [o.seed, 1])
            observed = random.choice(len(COLOURINGS), count, p=np.array(shares) / sum(shares))
            paths = [f"{first + i}/{which}" for i, which in enumerate(observed)]
            found[split] = [Entry(path, dict.fromkeys(self.fields, path)) for path in paths]
        return found

    @property
    def reader(self) -> Reader:
        return self.read

    def read(self, path: str, member: str) -> bytes:
        """`path`: the layout's number / the observed colouring's."""
        number, which = map(int, path.split("/"))
        ids = layout(number, self.options.size)
        if member == "truths":
            sink = io.BytesIO()
            np.save(sink, COLOURINGS[:, ids].transpose(0, 3, 1, 2), allow_pickle=False)
            return sink.getvalue()
        if member == "input":
            return decode.to_png(ids if self.options.input == "labels" else SHOWN[ids])
        return decode.to_png(COLOURINGS[which][ids])


def open_source(place: str, options: Options) -> Source:
    return Colourings(options)


def read_only(place: str, options: Options) -> Reader:
    return open_source(place, options).reader
