"""Rarity against a loop over kernels, its rare cases, and the artifact for any number of workers."""

import math
from pathlib import Path

import numpy as np
import pytest

from jobs import rarity as job
from jobs import shard
from pipeline.data import decode
from pipeline.data.shards import DataSet
from pipeline.training import rarity

CLASSES = 4


def test_counts_and_mean_colours_against_a_loop() -> None:
    random = np.random.default_rng(0)
    ids, image = random.integers(0, 3, (5, 6)), random.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    counts, means = rarity.colours(ids, image, CLASSES)
    for c in range(CLASSES):
        inside = [image[y, x].astype(float) for y in range(5) for x in range(6) if ids[y, x] == c]
        assert counts[c] == len(inside)
        wanted = sum(inside) / len(inside) if inside else np.zeros(3)
        assert means[c] == pytest.approx(wanted)
    with pytest.raises(ValueError, match="label id 2: there are 2 classes"):
        rarity.colours(ids, image, 2)


def test_scores_against_a_sum_of_kernels() -> None:
    random = np.random.default_rng(1)
    n = 12
    means = random.normal(100, 30, (n, 1, 3))
    counts = np.full((n, 1), 7)
    counts[3] = 0
    found, known = rarity.scores(counts, means, least=5)
    points = np.delete(means[:, 0], 3, 0)
    m = len(points)
    covariance = np.cov(points.T) * m ** (-2 / 7)  # Scott: n^(-1 / (d + 4)), squared
    inverse, scale = np.linalg.inv(covariance), math.sqrt((2 * math.pi) ** 3 * np.linalg.det(covariance))
    for i in range(n):
        if i == 3:
            assert found[i, 0] == 0
            continue
        density = sum(math.exp(-0.5 * (d := means[i, 0] - p) @ inverse @ d) for p in points) / (m * scale)
        assert found[i, 0] == pytest.approx(1 / density, rel=1e-9)
    assert known.tolist() == [True]


def test_the_unusual_colour_is_the_rare_one() -> None:
    random = np.random.default_rng(2)
    means = random.normal(100, 5, (80, 1, 3))
    means[7] = (240, 20, 20)
    found, _ = rarity.scores(np.ones((80, 1), int), means)
    assert found[:, 0].argmax() == 7 and found[7, 0] > 5 * np.median(found[:, 0])


def test_classes_without_a_density() -> None:
    """Never seen; in too few pictures; of one constant colour; in one picture only: all alike where they occur."""
    random = np.random.default_rng(3)
    counts, means = np.zeros((100, 5), int), np.zeros((100, 5, 3))
    counts[:, 0], means[:, 0] = 10, random.normal(100, 20, (100, 3))
    counts[:20, 1], means[:20, 1] = 5, random.normal(50, 9, (20, 3))
    counts[:, 2], means[:, 2] = 5, (9, 9, 9)
    counts[4, 3], means[4, 3] = 1, (1, 2, 3)
    found, known = rarity.scores(counts, means)
    assert known.tolist() == [True, False, False, False, False] and np.isfinite(found).all()
    assert (found[:20, 1] == 1).all() and (found[20:, 1] == 0).all() and (found[:, 4] == 0).all()
    weights = rarity.mask_weights(found, known)
    assert (weights[:, 0] == 1).all()  # the only estimated class of each picture is its rarest
    assert (weights[:20, 1] == 1).all() and weights[4, 3] == 1 and (weights[:, 4] == 0).all()


def test_mask_weights_make_the_rarest_class_of_a_picture_one() -> None:
    found = np.array([[4.0, 1.0, 0.0], [2.0, 8.0, 1.0], [0.0, 0.0, 1.0]])
    weights = rarity.mask_weights(found, np.array([True, True, False]))
    assert weights.tolist() == [[1, 0.25, 0], [0.25, 1, 1], [0, 0, 1]]


def make_data(folder: Path, count: int = 9) -> str:
    random = np.random.default_rng(4)
    for side in ("labels", "target"):
        (folder / "source" / side).mkdir(parents=True)
    for i in range(count):
        ids = random.integers(0, 3, (8, 8)).astype(np.uint8)
        image = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        (folder / "source" / "labels" / f"{i}.png").write_bytes(decode.to_png(ids))
        (folder / "source" / "target" / f"{i}.png").write_bytes(decode.to_png(image))
    shard.run(shard.Config(source=str(folder / "source"), output=str(folder / "data"), shard_size=4, workers=0))
    return str(folder / "data")


def test_the_artifact_is_the_same_for_any_number_of_workers(tmp_path: Path, ray_cluster: None) -> None:
    root = make_data(tmp_path)
    cards = []
    for workers in (1, 2):
        options = job.Config(data=root, output=str(tmp_path / str(workers)), classes=3, least=5, workers=workers)
        cards.append(job.run(options))
    assert cards[0] == cards[1] == job.run(options)
    assert cards[0]["notes"]["estimated"] == [True] * 3
    table, _ = rarity.load(str(tmp_path / "1"), DataSet(root))
    assert table["rarity"].shape == (9, 3) and bool((table["mask"].max(1).values == 1).all())
    area = cards[0]["notes"]["area"]
    assert table["classes"][0].tolist() == sorted(range(3), key=lambda c: -area[c])
    with pytest.raises(ValueError, match="label id 2: there are 2 classes"):
        job.run(job.Config(data=root, output=str(tmp_path / "few"), classes=2, workers=1))


def test_of_another_data_set_or_without_labels(tmp_path: Path, no_ray: None, tiny_work: dict[str, str]) -> None:
    root = make_data(tmp_path)
    job.run(job.Config(data=root, output=str(tmp_path / "r"), classes=3, workers=1))
    with pytest.raises(ValueError, match="another data set or split"):
        rarity.load(str(tmp_path / "r"), DataSet(tiny_work["data"]))
    with pytest.raises(ValueError, match="its inputs are no label maps"):
        job.run(job.Config(data=tiny_work["data"], output=str(tmp_path / "s"), classes=3))
