"""MNIST's, stacked MNIST's, CIFAR-10's files and points of the plane as sources; damaged and pickled files refused."""

import gzip
import io
import math
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs import shard
from pipeline.data import sources
from pipeline.data.images import Images
from pipeline.data.labelled import Labelled
from pipeline.data.samples import Entry, Source
from pipeline.data.shards import DataSet, facts_of
from pipeline.data.sources import cifar10, idx, points, stacked_mnist

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


def test_so_many_labels_of_each_class_are_kept(npz: str) -> None:
    made = {seed: opened("idx", npz, held_out=10, labelled=2, seed=seed).samples() for seed in (0, 1)}
    for listed in made.values():
        classes = [int(e.files["class"]) for e in listed["train"]]
        assert [classes.count(c) for c in range(10)] == [2] * 10 and classes.count(-1) == 30
        assert all(int(e.files["class"]) >= 0 for e in listed["val"] + listed["test"])
        assert all(c in (-1, i % 10) for i, c in enumerate(classes))
    assert made[0]["train"] != made[1]["train"]
    assert made[0] == opened("idx", npz, held_out=10, labelled=2).samples()
    with pytest.raises(ValueError, match="--option labelled 9: class 0 has 5 training samples"):
        opened("idx", npz, held_out=10, labelled=9).samples()
    with pytest.raises(ValueError, match="--option held_out 60: of 60 training samples"):
        opened("idx", npz, held_out=60)


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


def test_stacked_digits_are_what_their_class_says(npz: str) -> None:
    source = opened("stacked_mnist", npz, count=400, held_out=5)
    listed = source.samples()
    assert {split: len(entries) for split, entries in listed.items()} == {"train": 400, "val": 5}
    for split, name in (("train", "train"), ("val", "test")):
        for entry in listed[split][:20]:
            picture, spelt = pixels(source, entry), f"{int(entry.files['class']):03d}"
            for channel, digit in enumerate(spelt):
                same = (DIGITS[f"x_{name}"] == picture[:, :, channel]).all((1, 2))
                assert DIGITS[f"y_{name}"][same].tolist() == [int(digit)]
    assert len({e.files["class"] for e in listed["train"]}) > 250  # of 1000, drawn 400 times: 330 expected
    assert len(source.fields["class"].names) == 1000


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


@pytest.mark.parametrize(
    ("layout", "convention", "count", "radius", "deviation"),
    [
        ("ring", "pacgan", 8, 1.0, 0.01),
        ("ring", "wgan-gp", 8, 2 / 1.41421356, 0.02 / 1.41421356),
        ("grid", "pacgan", 25, 4 * math.sqrt(2), 0.05),
        ("grid", "wgan-gp", 25, 2.0, 0.05 / 2.82842712),
    ],
)
def test_the_two_conventions_of_points(
    layout: str, convention: str, count: int, radius: float, deviation: float
) -> None:
    found = points.modes(layout, convention)
    assert found.centres.shape == (count, 2) and len({tuple(c) for c in found.centres.round(9).tolist()}) == count
    assert np.linalg.norm(found.centres, axis=1).max() == pytest.approx(radius)
    assert found.deviation == pytest.approx(deviation)
    source = opened("points", "points", layout=layout, convention=convention, count=count * 80, held_out=4)
    entries = source.samples()["train"]
    drawn = np.stack([np.load(io.BytesIO(source.reader(e.files["points"], "points"))) for e in entries])
    modes = np.array([int(e.files["class"]) for e in entries])
    assert np.bincount(modes).tolist() == [80] * count
    apart = drawn - found.centres[modes]
    assert apart.std() == pytest.approx(deviation, rel=0.12) and abs(apart.mean()) < deviation / 4
    held_out = source.samples()["val"][0].files["points"]
    assert source.reader(held_out, "points") != source.reader(entries[0].files["points"], "points")


def test_points_become_a_data_set(tmp_path: Path, no_ray: None) -> None:
    options = {"count": "32", "held_out": "8"}
    shard.run(shard.Config(source="points", option=options, output=str(tmp_path / "data"), workers=1))
    data = DataSet(str(tmp_path / "data"))
    assert facts_of(data).fields["class"]["counts"] == [4] * 8
    assert facts_of(data).fields["points"]["shape"] == [2] and facts_of(data).samples == 32
    batch = Images(data).centred([0, 9], ["points", "class"], (8, 8))
    assert batch["points"].shape == (2, 2) and batch["class"].tolist() == [0, 1]


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
