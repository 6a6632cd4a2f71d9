"""Stacked MNIST: three digits as red, green and blue; a thousand modes (Metz et al. 2017; PacGAN, Lin et al. 2018).

    python -m jobs.shard --source stacked_mnist:mnist.npz --output DATASET

The class is the number that the digits spell, red first. Digits are drawn with replacement by `seed`, those of `val`
from the test set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from pipeline.data.samples import Entry, Field, Reader, Source
from pipeline.data.sources import idx

BUILT_IN = False
CLASSES = 1000
FROM = {"train": "train", "val": "test"}
"""Split -> MNIST's split that its digits are from."""


@dataclass(frozen=True)
class Options:
    """How many are stacked."""

    count: int = 128_000
    """Training samples (PacGAN: 128,000)."""
    held_out: int = 5000
    """Samples of split `val`."""
    seed: int = 0

    ADDED: ClassVar[tuple[str, ...]] = ()


def open_source(place: str, options: Options) -> Source:
    return Stacked(place, options)


def read_only(place: str, options: Options) -> Reader:
    return partial(_read, place)


class Stacked:
    """Triples of one MNIST."""

    left_out: Sequence[str] = ()

    def __init__(self, place: str, options: Options) -> None:
        if options.count < 1 or options.held_out < 1:
            raise ValueError(f"--option count {options.count}, held_out {options.held_out}: give at least 1")
        self.place, self.options = place, options

    @property
    def fields(self) -> dict[str, Field]:
        return {
            "target": Field("target"),
            "class": Field("class", kind="class", names=tuple(map("{:03d}".format, range(CLASSES)))),
        }

    def samples(self) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        for number, (split, count) in enumerate((("train", self.options.count), ("val", self.options.held_out))):
            classes = idx.arrays(self.place, FROM[split])[1]
            drawn = np.random.default_rng([self.options.seed, number]).integers(len(classes), size=(count, 3))
            values = classes[drawn] @ np.array([100, 10, 1])
            found[split] = [
                Entry(
                    f"{split} {i}",
                    {"target": f"{FROM[split]}/{'-'.join(map(str, three))}", "class": str(value)},
                    bytes=3 * idx.SIZE * idx.SIZE,
                )
                for i, (three, value) in enumerate(zip(drawn.tolist(), values.tolist(), strict=True))
            ]
        return found

    @property
    def reader(self) -> Reader:
        return partial(_read, self.place)


def _read(place: str, path: str, member: str) -> bytes:
    if member == "class":
        return path.encode()
    split, numbers = path.split("/")
    pictures = idx.arrays(place, split)[0]
    return idx.picture([pictures[int(n)] for n in numbers.split("-")])
