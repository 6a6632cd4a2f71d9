"""Points of the plane around the centres of a ring or a grid: sets whose modes can be counted.

    python -m jobs.shard --source points --option layout grid --option convention pacgan --output DATASET

Two conventions are in use, and their numbers are not comparable: `wgan-gp`, that of its released code, and `pacgan`.
The class is the number of the centre.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from pipeline.data import kinds
from pipeline.data.samples import Entry, Field, Reader, Source

BUILT_IN = True
RING, GRID = 8, 5
"""Centres of a ring; of a side of the grid."""


@dataclass(frozen=True)
class Options:
    """Which set, and how much of it."""

    layout: Literal["ring", "grid"] = "ring"
    """8 centres on a circle, or 5 x 5."""
    convention: Literal["wgan-gp", "pacgan"] = "pacgan"
    """Ring: radius 2 and deviation 0.02, all divided by sqrt(2) (wgan-gp), or radius 1 and deviation 0.01 (pacgan).
    Grid: coordinates -4, -2, 0, 2, 4 and deviation 0.05, all divided by 2 sqrt(2) (wgan-gp), or as is (pacgan)."""
    count: int = 10_000
    """Training points, the centres in turn."""
    held_out: int = 2500
    """Points of split `val`."""
    seed: int = 0

    ADDED: ClassVar[tuple[str, ...]] = ()


class Modes(NamedTuple):
    """Gaussians of one deviation, equally likely."""

    centres: np.ndarray
    """float64 `M 2`."""
    deviation: float


def modes(layout: str, convention: str) -> Modes:
    """The set's Gaussians."""
    if layout == "ring":
        angles = 2 * math.pi * np.arange(RING) / RING
        circle = np.stack([np.cos(angles), np.sin(angles)], 1)
        return Modes(circle, 0.01) if convention == "pacgan" else Modes(circle * 2 / math.sqrt(2), 0.02 / math.sqrt(2))
    side = 2.0 * np.arange(GRID) - (GRID - 1)
    square = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    scale = 1.0 if convention == "pacgan" else 2 * math.sqrt(2)
    return Modes(square / scale, 0.05 / scale)


def open_source(place: str, options: Options) -> Source:
    return Points(options)


def read_only(place: str, options: Options) -> Reader:
    return Points(options).reader


@dataclass(frozen=True)
class Points:
    """The points of the options."""

    options: Options
    left_out: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.options.count < 1 or self.options.held_out < 1:
            raise ValueError(
                f"--option count {self.options.count}, held_out {self.options.held_out}: give at least 1 each"
            )

    @property
    def fields(self) -> dict[str, Field]:
        return {"points": Field("points", kind="array"), "class": Field("class", kind="class")}

    def samples(self) -> dict[str, list[Entry]]:
        many = len(modes(self.options.layout, self.options.convention).centres)
        sizes = {"train": self.options.count, "val": self.options.held_out}
        return {
            split: [Entry(f"{split} {i}", {"points": f"{split}/{i}", "class": str(i % many)}) for i in range(count)]
            for split, count in sizes.items()
        }

    @property
    def reader(self) -> Reader:
        return self.read

    def read(self, path: str, member: str) -> bytes:
        """The point's .npy, or its centre's number."""
        if member == "class":
            return path.encode()
        split, number = path.split("/")
        found = modes(self.options.layout, self.options.convention)
        centre = found.centres[int(number) % len(found.centres)]
        drawn = np.random.default_rng([self.options.seed, int(split == "val"), int(number)]).standard_normal(2)
        return kinds.named("array").write(centre + found.deviation * drawn)
