"""The demo's crops: which photographs and pixels they are of, and that they are the same everywhere."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import shard
from pipeline.artifacts import artifact, storage
from pipeline.data import decode, sources
from pipeline.data.sources import demo


def test_demo_crops_are_of_disjoint_regions() -> None:
    source = demo.Demo(size=32, crops=12)
    found = source.samples()
    count = len(demo.PHOTOGRAPHS)
    assert len(found["train"]) == 12 * count and len(found["val"]) == 3 * count
    assert {e.label for e in found["val"]} == set(demo.PHOTOGRAPHS)
    used: dict[str, np.ndarray] = {n: np.zeros(demo.photograph(n).shape[:2], int) for n in demo.PHOTOGRAPHS}
    for split, bit in (("train", 1), ("val", 2)):
        for entry in found[split]:
            name, place = entry.files["target"].split("/")
            top, left = map(int, place.split("-"))
            used[name][top : top + 32, left : left + 32] |= bit
            assert entry.files["input"] == entry.files["target"]
    assert not any((marks == 3).any() for marks in used.values())
    assert all((marks == 1).any() and (marks == 2).any() for marks in used.values())


@pytest.mark.parametrize("shape", [(300, 451), (451, 300, 3), (64, 64)])
def test_demo_regions_share_no_pixel(shape: tuple[int, ...]) -> None:
    marks = np.zeros(shape[:2], int)
    for split in ("train", "val"):
        top, left, bottom, right = demo.region(shape, split)
        marks[top:bottom, left:right] += 1
    assert (marks == 1).all()  # disjoint, and nothing is left out


def luma(picture: np.ndarray) -> np.ndarray:
    """ITU-R BT.601."""
    return np.asarray(picture @ np.array([0.299, 0.587, 0.114]))


def test_demo_crop_is_the_photographs_pixels_and_their_grey() -> None:
    source = demo.Demo(size=32, crops=2)
    entry = next(e for e in source.samples()["train"] if e.label == "china")
    top, left = map(int, entry.files["target"].split("/")[1].split("-"))
    with Image.open(demo._file("china")) as whole:
        expected = np.array(whole)[top : top + 32, left : left + 32]
    assert np.array_equal(decode.pixels(source.read(entry.files["target"], "target")), expected)
    with Image.open(io.BytesIO(source.read(entry.files["input"], "input"))) as file:
        assert file.mode == "RGB"
        grey = np.array(file)
    assert (grey == grey[..., :1]).all() and np.abs(grey[..., 0] - luma(expected)).max() < 1
    assert expected.std(2).mean() > 3  # the target is in colour


def test_demo_holds_out_whole_photographs() -> None:
    """Test: photographs of no other split, almost whole. Train and val: squares of many sizes, disjoint regions."""
    source = demo.Demo(size=16, crops=24, held_out="photographs")
    found = source.samples()
    assert {split: len(entries) for split, entries in found.items()} == {"train": 24 * 8, "val": 6 * 8, "test": 6 * 6}
    assert {e.label for e in found["train"]} == {e.label for e in found["val"]} == set(demo.SEEN)
    assert {e.label for e in found["test"]} == set(demo.UNSEEN) and not set(demo.SEEN) & set(demo.UNSEEN)
    sides: dict[str, list[float]] = {split: [] for split in found}
    used: dict[str, np.ndarray] = {n: np.zeros(demo.photograph(n).shape[:2], int) for n in demo.SEEN + demo.UNSEEN}
    for (split, entries), bit in zip(found.items(), (1, 2, 4), strict=True):
        for entry in entries:
            name, place = entry.files["target"].split("/")
            top, left, side = map(int, place.split("-"))
            height, width = demo.photograph(name).shape[:2]
            assert top + side <= height and left + side <= width
            used[name][top : top + side, left : left + side] |= bit
            sides[split].append(side / min(height, width))
    assert {int(mark) for marks in used.values() for mark in np.unique(marks)} == {0, 1, 2, 4}
    assert min(sides["train"]) < 0.3 and max(sides["train"]) > 0.6
    assert min(sides["test"]) >= 0.74 and max(sides["test"]) <= 1


def test_demo_s_crops_of_many_sizes_are_shrunk_and_seldom_plain() -> None:
    source = demo.Demo(size=32, crops=12, held_out="photographs")
    entries = source.samples()["train"]
    spread = []
    for entry in entries:
        target, grey = (decode.pixels(source.read(entry.files[m], m)) for m in ("target", "input"))
        assert target.shape == grey.shape == (32, 32, 3)
        assert np.abs(grey[..., 0] - luma(target)).max() < 1
        spread.append(grey.std())
    assert np.mean(np.array(spread) < 8) < 0.02  # hubble, retina and rocket are mostly plain where nothing is chosen
    whole = demo.photograph("china")
    entry = next(e for e in entries if e.label == "china")
    top, left, side = map(int, entry.files["target"].split("/")[1].split("-"))
    mean = whole[top : top + side, left : left + side].mean((0, 1))
    assert np.allclose(decode.pixels(source.read(entry.files["target"], "target")).mean((0, 1)), mean, atol=3)


def test_a_demo_of_edges_is_refused(tmp_path: Path) -> None:
    old = {"kind": "demo", "size": 16, "crops": 2, "seed": 0}
    with pytest.raises(ValueError, match="version 1, whose inputs were edges"):
        sources.read_only(old, "demo")
    config = shard.Config(source="demo", output=str(tmp_path), size=16, crops=2)
    now = shard.source_options(config, "demo")
    assert {name: now[name] for name in old} == old and now != old
    artifact.check(str(tmp_path), "dataset", 1, {}, {"source": now})
    storage.publish_json(
        str(tmp_path / "request.json"), {"kind": "dataset", "version": 1, "inputs": {}, "options": {"source": old}}
    )
    with pytest.raises(ValueError, match=r"options\.source\.version is 'absent' there, 2 wanted"):
        artifact.check(str(tmp_path), "dataset", 1, {}, {"source": now})


def test_demo_is_deterministic_and_seeded() -> None:
    assert demo.Demo(16, 3, 1).samples() == demo.Demo(16, 3, 1).samples()
    assert demo.Demo(16, 3, 1).samples() != demo.Demo(16, 3, 2).samples()
    views = [demo.Demo(16, 3, seed, "photographs").samples() for seed in (1, 1, 2)]
    assert views[0] == views[1] != views[2]
    for held_out in ("regions", "photographs"):
        with pytest.raises(ValueError, match="--size 300"):
            demo.Demo(300, 3, 0, held_out).samples()  # type: ignore[arg-type]
