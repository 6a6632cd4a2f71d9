"""MNIST's files and sets in their form: read, damaged, pickled."""

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.data import sources
from pipeline.data.labelled import Labelled
from pipeline.data.samples import Entry, Source
from pipeline.data.sources import idx, stacked_mnist

RANDOM = np.random.default_rng(0)
DIGITS = {
    "x_train": RANDOM.integers(0, 256, (60, 28, 28), dtype=np.uint8),
    "y_train": (np.arange(60) % 10).astype(np.uint8),
    "x_test": RANDOM.integers(0, 256, (20, 28, 28), dtype=np.uint8),
    "y_test": (np.arange(20) % 10).astype(np.uint8),
}


def header(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + b"".join(struct.pack(">I", n) for n in values.shape) + values.tobytes()


@pytest.fixture
def npz(tmp_path: Path) -> str:
    np.savez(tmp_path / "mnist.npz", **DIGITS)
    return str(tmp_path / "mnist.npz")


@pytest.fixture
def files(tmp_path: Path) -> str:
    """The idx files, two of them packed."""
    folder = tmp_path / "idx"
    folder.mkdir()
    for split, name in (("train", "train"), ("test", "t10k")):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header(DIGITS[f"x_{split}"]))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header(DIGITS[f"y_{split}"])))
    return str(folder)


def opened(kind: str, place: str, **options: Any) -> Source:
    return sources.open_source(sources.options(kind, options), place)


def pixels(source: Source, entry: Entry) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(source.reader(entry.files["target"], "target"))))


def test_idx_files_and_npz_are_the_same_set(npz: str, files: str) -> None:
    both = [opened("idx", place, held_out=10) for place in (npz, files)]
    listed = [source.samples() for source in both]
    assert listed[0] == listed[1]
    assert {split: len(entries) for split, entries in listed[0].items()} == {"train": 50, "val": 10, "test": 20}
    for source in both:
        for split, first, name in (("train", 0, "train"), ("val", 50, "train"), ("test", 0, "test")):
            entry = source.samples()[split][3]
            grey = DIGITS[f"x_{name}"][first + 3]
            assert np.array_equal(pixels(source, entry), np.stack([grey] * 3, 2))
            assert source.reader(entry.files["class"], "class") == b"%d" % ((first + 3) % 10)


def test_damaged_idx_files_are_refused(files: str, tmp_path: Path) -> None:
    path = Path(files) / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    for data, problem in ((whole[:-1], "its header says 47040"), (b"\0\0\x0d\3" + whole[4:], "not an idx file")):
        path.write_bytes(data)
        idx.arrays.cache_clear()
        with pytest.raises(ValueError, match=problem):
            opened("idx", files, held_out=10)
    path.unlink()
    with pytest.raises(ValueError, match=r"there is no train-images-idx3-ubyte \(or"):
        opened("idx", files, held_out=10)
    packed = Path(files) / "t10k-labels-idx1-ubyte.gz"
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(ValueError, match="a damaged gzip file"):
        idx.unpacked(packed.read_bytes(), str(packed))


def test_an_npz_with_a_pickle_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    np.savez(tmp_path / "bad.npz", **{**DIGITS, "x_train": np.array([Bomb()], dtype=object)})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"not an \.npz of x_train"):
        opened("idx", str(tmp_path / "bad.npz"))
    assert not (tmp_path / "ran").exists()


def test_real_mnist(real_data: Path) -> None:
    source = opened("idx", str(real_data / "mnist" / "mnist.npz"), labelled=10)
    assert isinstance(source, Labelled)
    listed = source.samples()
    assert [len(listed[s]) for s in ("train", "val", "test")] == [55000, 5000, 10000]
    assert np.bincount(source.classes["test"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert sum(e.files["class"] != "-1" for e in listed["train"]) == 100
    stacked = opened("stacked_mnist", str(real_data / "mnist" / "mnist.npz"), count=26_000, held_out=10)
    assert isinstance(stacked, stacked_mnist.Stacked)
    assert len({e.files["class"] for e in stacked.samples()["train"]}) == 1000
