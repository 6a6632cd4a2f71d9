"""CIFAR-10's binary version: 60,000 pictures of 32 x 32 in ten classes (Krizhevsky 2009).

    python -m jobs.shard --source cifar10:cifar-10-batches-bin --output DATASET

The folder holds `data_batch_1.bin` ... `data_batch_5.bin` and `test_batch.bin`. The Python version is pickled: reading
it could run anything, so it is refused. Of the training set the last `held_out` become `val`, the test set is
`test`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

import numpy as np

from pipeline.artifacts import storage
from pipeline.data import decode
from pipeline.data.samples import Entry, Field, Reader, Source
from pipeline.data.sources.idx import labelled

BUILT_IN = False
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE, RECORD = 32, 1 + 3 * 32 * 32
"""A record: the class, then red, green and blue, row by row."""
FILES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}


@dataclass(frozen=True)
class Options:
    """What is held out, and how many labels are known."""

    held_out: int = 5000
    """The last so many training samples are split `val`."""
    labelled: int = 0
    """Training samples of each class that keep their class, a choice by `seed`; the others have none. 0: all."""
    seed: int = 0

    ADDED: ClassVar[tuple[str, ...]] = ()


def open_source(place: str, options: Options) -> Source:
    return Cifar10(place, options)


def read_only(place: str, options: Options) -> Reader:
    return partial(_read, place)


class Cifar10:
    """The samples of a folder."""

    other_files = 0

    def __init__(self, place: str, options: Options) -> None:
        """Raises ValueError: the Python version, files that are missing or damaged."""
        self.place, self.options = place, options
        self.classes = {split: records(place, split)[:, 0] for split in FILES}
        if not 0 < options.held_out < len(self.classes["train"]):
            raise ValueError(f"--option held_out {options.held_out}: of {len(self.classes['train'])} training samples")

    @property
    def fields(self) -> dict[str, Field]:
        return {"target": Field("target"), "class": Field("class", kind="class", names=NAMES)}

    def samples(self) -> dict[str, list[Entry]]:
        total = len(self.classes["train"])
        train = total - self.options.held_out
        known = labelled(self.classes["train"][:train], self.options.labelled, self.options.seed)
        parts = {"train": ("train", range(train)), "val": ("train", range(train, total))}
        parts["test"] = ("test", range(len(self.classes["test"])))
        found = {}
        for name, (split, numbers) in parts.items():
            found[name] = [
                Entry(
                    f"{split} {i}",
                    {
                        "target": f"{split}/{i}",
                        "class": str(int(self.classes[split][i])) if name != "train" or known[i] else "-1",
                    },
                    bytes=RECORD,
                )
                for i in numbers
            ]
        return found

    @property
    def reader(self) -> Reader:
        return partial(_read, self.place)


@lru_cache(maxsize=2)
def records(place: str, split: str) -> np.ndarray:
    """uint8 `N 3073`.

    Raises:
        ValueError: the Python version, files that are missing or damaged.
    """
    found = []
    for name in FILES[split]:
        path = storage.join(place, f"{name}.bin")
        if not storage.exists(path):
            if storage.exists(storage.join(place, name)):
                raise ValueError(
                    f"--source {place}: {name} is of CIFAR-10's Python version, a pickle, which is not read: take the "
                    "binary version (cifar-10-binary.tar.gz, with data_batch_1.bin)"
                )
            raise ValueError(f"--source {place}: there is no {name}.bin")
        data = np.frombuffer(storage.read(path), np.uint8)
        if not len(data) or len(data) % RECORD:
            raise ValueError(f"{path}: {len(data)} bytes are no whole records of {RECORD}")
        rows = data.reshape(-1, RECORD)
        if int(rows[:, 0].max()) >= len(NAMES):
            raise ValueError(f"{path}: a class of {int(rows[:, 0].max())}, CIFAR-10 has {len(NAMES)}")
        found.append(rows)
    return np.concatenate(found)


def _read(place: str, path: str, member: str) -> bytes:
    if member == "class":
        return path.encode()
    split, number = path.split("/")
    planes = records(place, split)[int(number), 1:].reshape(3, SIDE, SIDE)
    return decode.to_png(np.ascontiguousarray(planes.transpose(1, 2, 0)))
