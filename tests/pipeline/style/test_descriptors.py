"""Style vectors against the distance written out, the golden values, and what a job does with bad input."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jobs import describe, shard
from models.common import vgg
from pipeline.artifacts import pool
from pipeline.data import tensors
from pipeline.style import descriptors
from pipeline.style.descriptors import DescribeOptions, Describer
from pipeline.style.vectors import Vectors, bad_rows
from pipeline.style.weights import load_weights

LAYERS = ("relu1_1", "relu2_1")


def net(layers: tuple[str, ...] = LAYERS) -> vgg.VGG:
    return vgg.VGG("vgg16", layers).random(0)


def images(count: int, side: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def distances(vectors: torch.Tensor) -> torch.Tensor:
    """N D -> N N in float64, by direct differences."""
    wide = vectors.double()
    return (wide[:, None] - wide[None]).square().sum(-1)


def test_squared_distance_of_vectors_is_the_style_distance() -> None:
    x, layer_weights = images(4), (1.0, 3.0)
    found = distances(Describer(net(), layer_weights)(x))
    grams = {layer: vgg.gram(f) for layer, f in net().double()(x.double()).items()}
    for i in range(4):
        for j in range(4):
            wanted = 0.0
            for layer, w in zip(LAYERS, layer_weights, strict=True):
                a, b, c = grams[layer][i], grams[layer][j], len(grams[layer][i])
                wanted += w * sum(float(a[p, q] - b[p, q]) ** 2 for p in range(c) for q in range(c)) / c**2
            assert abs(float(found[i, j]) - wanted) <= 1e-5 * wanted


def test_golden_distances(real_data: Path) -> None:
    golden = json.loads((real_data / "golden" / "style_distance.json").read_text())
    path = real_data / "weights" / "vgg19_normalised" / "vgg19_to_conv3_1.pth"
    network, origin = load_weights(str(path), "vgg19", golden["layers"])
    assert origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() and not origin.random
    cut = []
    for name in golden["files"]:
        image = np.asarray(Image.open(real_data / name).convert("RGB"))
        cut.append((image if name.startswith("styles") else image[:, : image.shape[1] // 2])[:128, :128])
    wanted = torch.tensor(golden["distance"], dtype=torch.float64)
    off = ~torch.eye(len(wanted), dtype=torch.bool)
    found = distances(Describer(network)(tensors.pictures_to_tensor(cut)))
    error = ((found - wanted).abs() / wanted)[off].max()
    assert error < 1e-5, f"float32: relative error {error:.1e}"
    half = distances(Describer(network, precision="bf16")(tensors.pictures_to_tensor(cut)))
    error = ((half - wanted).abs() / wanted)[off].max()
    assert 1e-4 < error < 0.1, f"bf16: relative error {error:.1e}"  # from below: it must have been bf16


def test_size_resizes_the_shortest_side_and_cuts_the_centre() -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 20:60] = 255
    found = descriptors.prepare(image, 20, 1)
    assert (
        found.shape == (20, 20, 3) and found[:, 2:-2].min() == 255 and found.min() > 200
    )  # the white middle, without the black ends
    assert descriptors.prepare(image, 0, 1) is image
    with pytest.raises(ValueError, match="80 x 40 pixels: the deepest layer needs sides of 64"):
        descriptors.prepare(image, 0, 64)
    with pytest.raises(ValueError, match="shrink with --size"):
        descriptors.prepare(np.zeros((2049, 2048, 3), np.uint8), 0, 1)


def png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, inline: Any) -> Iterator[Path]:
    """11 images of two sizes in shards of 4; number 5 has a good header and is cut short, number 6 is one pixel."""
    root = tmp_path_factory.mktemp("describe")
    generator = np.random.default_rng(0)
    for i in range(11):
        side = 1 if i == 6 else 16 if i < 8 else 24
        png(root / "source" / f"{i:02d}.png", generator.integers(0, 256, (side, side, 3), dtype=np.uint8))
    noise = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(noise).save(sink, "PNG", compress_level=0)
    data = bytearray(sink.getvalue())
    data[200] ^= 0xFF  # within the pixels: header, length and end are right, the check sum is not
    (root / "source" / "05.png").write_bytes(bytes(data))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "each", inline)
        shard.run(shard.Config(source=str(root / "source"), output=str(root / "data"), shard_size=4, workers=1))
    yield root / "data"


def config(dataset: Path, output: Path, workers: int = 1, **changes: object) -> describe.Config:
    options = DescribeOptions(net="vgg16", layers=("relu1_2", "relu2_1"), batch=3)
    base = describe.Config(str(dataset), str(output), "random", describe=options, workers=workers, max_bad_share=0.5)
    return describe.Config(**{**vars(base), **changes})  # type: ignore[arg-type]


def part_bytes(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.parquet"))]


def test_parts_are_the_same_in_this_process_on_two_workers_and_after_a_resume(
    dataset: Path, tmp_path: Path, ray_cluster: None, inline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [describe.run(config(dataset, tmp_path / "2", workers=2))]
    monkeypatch.setattr(pool, "each", inline)
    cards.append(describe.run(config(dataset, tmp_path / "1")))
    parts = [part_bytes(tmp_path / name) for name in "12"]
    assert len(parts[0]) == 3 and parts[0] == parts[1]
    assert cards[0] == cards[1]
    folder = tmp_path / "1"
    for name in ("card.json", "00001.json", "00001.parquet"):
        (folder / name).unlink()
    kept = (folder / "00000.parquet").stat().st_mtime_ns
    assert describe.run(config(dataset, folder)) == cards[0]
    assert part_bytes(folder) == parts[0]
    assert (folder / "00000.parquet").stat().st_mtime_ns == kept  # not computed again


def test_bad_images_are_rows_with_a_reason(dataset: Path, tmp_path: Path, no_ray: None) -> None:
    card = describe.run(config(dataset, tmp_path / "d"))
    assert card["notes"]["bad"] == 2 and card["rows"] == 11 and card["notes"]["random_weights"]
    bad = dict(bad_rows(str(tmp_path / "d"), range(3)))
    assert sorted(bad) == ["00000005", "00000006"]
    assert "05.png" in bad["00000005"] and "1 x 1 pixels" in bad["00000006"]
    vectors = Vectors(str(tmp_path / "d"))
    rows, valid = vectors.rows(0, 11)
    assert np.flatnonzero(~valid).tolist() == [5, 6] and len(vectors) == 11
    assert np.array_equal(vectors.valid, valid)
    assert not rows[[5, 6]].any() and np.abs(rows[valid]).sum(axis=1).min() > 0
    middle, good = vectors.rows(3, 9)
    assert np.array_equal(middle, rows[3:9]) and good.tolist() == valid[3:9].tolist()
    # The job fails when there are too many, after its count.
    with pytest.raises(ValueError, match=r"--max-bad-share 0\.01: 2 of 11 images .* 00000005"):
        describe.run(config(dataset, tmp_path / "e", max_bad_share=0.01))


def test_vectors_on_disk_are_those_of_the_images(dataset: Path, tmp_path: Path, no_ray: None) -> None:
    describe.run(config(dataset, tmp_path / "d"))
    rows, _ = Vectors(str(tmp_path / "d")).rows(0, 11)
    alone = Describer(net(("relu1_2", "relu2_1")))
    for i in (0, 7, 10):
        pixels = np.asarray(Image.open(dataset.parent / "source" / f"{i:02d}.png"))
        np.testing.assert_allclose(
            rows[i], alone(tensors.pictures_to_tensor([pixels]))[0].numpy(), rtol=1e-4, atol=1e-7
        )


def test_another_request_never_overwrites(dataset: Path, tmp_path: Path, no_ray: None) -> None:
    describe.run(config(dataset, tmp_path / "d"))
    before = part_bytes(tmp_path / "d")
    with pytest.raises(ValueError, match=r"inputs\.weights is 'random:0' there, 'random:1' wanted"):
        describe.run(config(dataset, tmp_path / "d", weights_seed=1))
    assert part_bytes(tmp_path / "d") == before
    with pytest.raises(ValueError, match="--field style"):
        describe.run(config(dataset, tmp_path / "f", describe=DescribeOptions(field="style")))


def test_a_part_cut_short_is_named(dataset: Path, tmp_path: Path, no_ray: None) -> None:
    describe.run(config(dataset, tmp_path / "d"))
    path = tmp_path / "d" / "00001.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"00001\.parquet"):
        Vectors(str(tmp_path / "d"))


def test_options_on_the_command_line_and_their_errors() -> None:
    assert DescribeOptions(layers=("relu1_2,relu2_2", "relu3_1")).layers == ("relu1_2", "relu2_2", "relu3_1")
    for wrong in ({"layer_weights": (1.0,)}, {"layers": ("relu1_1",), "layer_weights": (0.0,)}, {"batch": 0}):
        with pytest.raises(ValueError, match="--"):
            DescribeOptions(**wrong)  # type: ignore[arg-type]


def test_damage_is_an_error_and_a_part_taken_out_is_made_again(dataset: Path, tmp_path: Path, no_ray: None) -> None:
    card = describe.run(config(dataset, tmp_path / "d"))
    part = tmp_path / "d" / "00000.parquet"
    whole = part.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1  # within the vectors: still Parquet, other numbers
    part.write_bytes(bytes(flipped))
    with pytest.raises(ValueError, match=r"00000\.parquet: .*run jobs\.describe again"):
        Vectors(str(tmp_path / "d")).rows(0, 4)
    part.unlink()
    assert describe.run(config(dataset, tmp_path / "d")) == card and part.read_bytes() == whole
    copy = tmp_path / "data"
    shutil.copytree(dataset, copy)
    tar = bytearray((copy / "train" / "00001.tar").read_bytes())
    tar[600] ^= 1
    (copy / "train" / "00001.tar").write_bytes(bytes(tar))
    with pytest.raises(ValueError, match="not the bytes that the index names"):  # no bad sample: a damaged data set
        describe.run(config(copy, tmp_path / "e"))
