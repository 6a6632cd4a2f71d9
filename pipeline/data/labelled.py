"""Public sets with a class for every picture: what is held out, and how many of the classes are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.data.samples import Entry, Field, Reader


@dataclass(frozen=True)
class Options:
    """What is held out, and how many labels are known."""

    held_out: int = 5000
    """The last so many training samples are split `val`."""
    labelled: int = 0
    """Training samples of each class that keep their class, a choice by `seed`; the others have none. 0: all."""
    seed: int = 0

    ADDED: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class Labelled:
    """A source of samples `SPLIT/NUMBER` with their classes."""

    classes: Mapping[str, np.ndarray]
    """Of the set's own splits, `train` and `test`."""
    options: Options
    reader: Reader
    bytes: int
    """Of one picture."""
    names: tuple[str, ...] = ()
    """Of the classes."""
    left_out: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Raises ValueError: more held out than there is."""
        there = len(self.classes["train"])
        if not 0 < self.options.held_out < there:
            raise ValueError(f"--option held_out {self.options.held_out}: of {there} training samples")

    @property
    def fields(self) -> dict[str, Field]:
        return {"target": Field("target"), "class": Field("class", kind="class", names=self.names)}

    def samples(self) -> dict[str, list[Entry]]:
        train = len(self.classes["train"]) - self.options.held_out
        known = labelled(self.classes["train"][:train], self.options.labelled, self.options.seed)

        def entries(split: str, numbers: range, kept: np.ndarray | None = None) -> list[Entry]:
            found = []
            for i in numbers:
                y = int(self.classes[split][i]) if kept is None or kept[i] else -1
                found.append(Entry(f"{split} {i}", {"target": f"{split}/{i}", "class": str(y)}, bytes=self.bytes))
            return found

        return {
            "train": entries("train", range(train), known),
            "val": entries("train", range(train, len(self.classes["train"]))),
            "test": entries("test", range(len(self.classes["test"]))),
        }


def labelled(classes: np.ndarray, each: int, seed: int) -> np.ndarray:
    """bool `N`: `each` samples of every class, drawn by `seed`; 0: all.

    Raises:
        ValueError: a class has fewer.
    """
    if not each:
        return np.ones(len(classes), bool)
    generator = np.random.default_rng([seed, each])
    kept = np.zeros(len(classes), bool)
    for one in np.unique(classes):
        there = np.flatnonzero(classes == one)
        if len(there) < each:
            raise ValueError(f"--option labelled {each}: class {one} has {len(there)} training samples")
        kept[generator.choice(there, each, replace=False)] = True
    return kept
