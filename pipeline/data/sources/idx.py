"""MNIST and sets in its form (Fashion-MNIST, KMNIST): grey pictures of 28 x 28 with a class.

    python -m jobs.shard --source idx:FOLDER --output DATASET
    python -m jobs.shard --source idx:mnist.npz --option labelled 10 --output DATASET

Reads a folder with the four idx files (`train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-...`; or .gz), or
one .npz with `x_train`, `y_train`, `x_test`, `y_test`; nothing is unpickled. Of the training set the last `held_out`
become `val`, the test set is `test`.
"""

from __future__ import annotations

import gzip
import io
import math
import zipfile
from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np

from pipeline.artifacts import storage
from pipeline.data import decode
from pipeline.data.labelled import Labelled
from pipeline.data.labelled import Options as Options
from pipeline.data.samples import Reader, Source

BUILT_IN = False
SIZE = 28
FILES = {"train": "train", "test": "t10k"}
"""Split -> how its idx files begin."""
LARGEST = 1 << 30
"""Bytes of an unpacked file at most."""


def open_source(place: str, options: Options) -> Source:
    """Raises ValueError: files that are missing, damaged, or not of one size."""
    return Labelled({split: arrays(place, split)[1] for split in FILES}, options, partial(_read, place), SIZE * SIZE)


def read_only(place: str, options: Options) -> Reader:
    return partial(_read, place)


@lru_cache(maxsize=4)
def arrays(place: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 `N 28 28` and int64 `N`.

    Raises:
        ValueError: files that are missing or damaged, or of another form.
    """
    if place.endswith(".npz"):
        pictures, classes = _of_npz(place, split)
    else:
        pictures = _of_idx(place, f"{FILES[split]}-images-idx3-ubyte", 3)
        classes = _of_idx(place, f"{FILES[split]}-labels-idx1-ubyte", 1)
    if pictures.dtype != np.uint8 or pictures.ndim != 3 or len(pictures) != len(classes) or classes.ndim != 1:
        raise ValueError(
            f"--source {place}: split {split} has pictures {pictures.dtype} {pictures.shape} and classes "
            f"{classes.shape}; uint8 N H W and N are wanted"
        )
    return pictures, classes.astype(np.int64)


def _of_npz(place: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(io.BytesIO(storage.read(place)), allow_pickle=False) as there:
            return there[f"x_{split}"], there[f"y_{split}"]
    except FileNotFoundError as error:
        raise ValueError(f"--source {place}: there is no such file") from error
    except (ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"--source {place}: not an .npz of x_train, y_train, x_test, y_test ({error})") from error


def _of_idx(place: str, name: str, dimensions: int) -> np.ndarray:
    plain = storage.join(place, name)
    path = plain if storage.exists(plain) else plain + ".gz"
    if not storage.exists(path):
        raise ValueError(f"--source {place}: there is no {name} (or {name}.gz)")
    data = storage.read(path)
    if path.endswith(".gz"):
        data = unpacked(data, path)
    return idx(data, dimensions, path)


def unpacked(data: bytes, path: str) -> bytes:
    """A gzip file's content, at most `LARGEST` bytes. Raises ValueError: damaged, or larger."""
    try:
        with gzip.open(io.BytesIO(data)) as file:
            found: bytes = file.read(LARGEST + 1)
    except (OSError, EOFError) as error:
        raise ValueError(f"{path}: a damaged gzip file ({error})") from error
    if len(found) > LARGEST:
        raise ValueError(f"{path}: more than {LARGEST} bytes unpacked")
    return found


def idx(data: bytes, dimensions: int, path: str) -> np.ndarray:
    """uint8 array of an idx file: two zeros, type 8, the number of dimensions, each as 32 bits big-endian, the values.

    Raises:
        ValueError: another type, or a length that its header does not say.
    """
    if len(data) < 4 + 4 * dimensions or data[:4] != bytes([0, 0, 8, dimensions]):
        raise ValueError(f"{path}: not an idx file of unsigned bytes with {dimensions} dimensions")
    shape = np.frombuffer(data, ">u4", dimensions, 4).astype(int).tolist()
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions)
    if len(values) != math.prod(shape):
        raise ValueError(f"{path}: {len(values)} bytes of values, its header says {math.prod(shape)}")
    return values.reshape(shape)


def picture(grey: Sequence[np.ndarray]) -> bytes:
    """PNG of one grey picture, or of three as red, green and blue."""
    return decode.to_png(np.ascontiguousarray(np.stack(grey if len(grey) == 3 else [grey[0]] * 3, 2)))


def _read(place: str, path: str, member: str) -> bytes:
    if member == "class":
        return path.encode()  # the listing knows it
    split, number = path.split("/")
    return picture([arrays(place, split)[0][int(number)]])
