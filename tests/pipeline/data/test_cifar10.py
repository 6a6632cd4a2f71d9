"""CIFAR-10's binary records."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.sources import cifar10
from tests.pipeline.data.test_idx import RANDOM, opened, pixels


def write_cifar(folder: Path, suffix: str = ".bin") -> np.ndarray:
    folder.mkdir()
    rows = RANDOM.integers(0, 256, (6, 4, cifar10.RECORD), dtype=np.uint8)
    rows[:, :, 0] %= 10
    for name, part in zip((*cifar10.FILES["train"], "test_batch"), rows, strict=True):
        (folder / f"{name}{suffix}").write_bytes(part.tobytes())
    return rows


def test_cifar10s_records(tmp_path: Path) -> None:
    rows = write_cifar(tmp_path / "bin")
    source = opened("cifar10", str(tmp_path / "bin"), held_out=3)
    listed = source.samples()
    assert {split: len(entries) for split, entries in listed.items()} == {"train": 17, "val": 3, "test": 4}
    flat = rows[:5].reshape(-1, cifar10.RECORD)
    for number, entry in enumerate([*listed["train"], *listed["val"]]):
        red, green, blue = flat[number, 1:].reshape(3, 32, 32)
        assert np.array_equal(pixels(source, entry), np.stack([red, green, blue], 2))
        assert int(entry.files["class"]) == flat[number, 0]
    assert np.array_equal(pixels(source, listed["test"][2])[0, 0], rows[5, 2, [1, 1025, 2049]])


def test_cifar10s_pickles_are_refused_with_what_to_take(tmp_path: Path) -> None:
    folder = tmp_path / "py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": 1}))
    with pytest.raises(ValueError, match=r"a pickle, which is not read: take the binary version \(cifar-10-binary"):
        opened("cifar10", str(folder))
    with pytest.raises(ValueError, match=r"there is no data_batch_1\.bin"):
        opened("cifar10", str(tmp_path))
    write_cifar(tmp_path / "cut")
    path = tmp_path / "cut" / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="no whole records of 3073"):
        opened("cifar10", str(tmp_path / "cut"))
