"""CIFAR-10's binary version: 60,000 pictures of 32 x 32 in ten classes (Krizhevsky 2009).

    python -m jobs.shard --source cifar10:cifar-10-batches-bin --output DATASET

The folder holds `data_batch_1.bin` ... `data_batch_5.bin` and `test_batch.bin`. The Python version is pickled: reading
it could run anything, so it is refused. Of the training set the last `held_out` become `val`, the test set is
`test`.
"""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np

from pipeline.artifacts import storage
from pipeline.data import decode
from pipeline.data.labelled import Labelled
from pipeline.data.labelled import Options as Options
from pipeline.data.samples import Reader, Source

BUILT_IN = False
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE, RECORD = 32, 1 + 3 * 32 * 32
"""A record: the class, then red, green and blue, row by row."""
FILES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}


def open_source(place: str, options: Options) -> Source:
    """Raises ValueError: the Python version, files that are missing or damaged."""
    classes = {split: records(place, split)[:, 0] for split in FILES}
    return Labelled(classes, options, partial(_read, place), RECORD, NAMES)


def read_only(place: str, options: Options) -> Reader:
    return partial(_read, place)


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
