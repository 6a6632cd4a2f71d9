"""The style index's bench at sizes that take moments, and the codes it compares against their definitions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import command
from jobs.bench import style_index
from jobs.bench.harness import scaling
from jobs.bench.harness.vectors import low_rank
from jobs.bench.style import codes, frontier, many, speed
from pipeline.neighbours import units
from pipeline.style.vectors import Vectors
from pipeline.tracking.journal import Tracker

Array = np.ndarray


def gram(generator: np.random.Generator, channels: int, positions: int) -> tuple[Array, Array]:
    """(features float64 C P, the Gram's upper triangle as descriptors hold it: sqrt(2) off the diagonal)."""
    f = generator.normal(size=(channels, positions))
    g = f @ f.T
    i, j = np.triu_indices(channels)
    return f, g[i, j] * np.where(i == j, 1.0, 2**0.5)


def test_tensor_sketch_of_a_gram_is_the_sum_over_positions() -> None:
    """Pham and Pagh's definition: circular convolution of two count sketches of each position's features."""
    generator = np.random.default_rng(0)
    channels, positions = (5, 8), 7
    tensor = codes.TensorSketch(channels, 31, seed=3)
    assert sum(tensor.rooms) == 31
    features, vectors = zip(*(gram(generator, c, positions) for c in channels), strict=True)
    wanted = []
    for f, (h1, h2, s1, s2), room in zip(features, tensor.tables, tensor.rooms, strict=True):
        counts = np.zeros((2, room, positions))
        for side, (h, s) in enumerate(((h1, s1), (h2, s2))):
            np.add.at(counts[side], h, s[:, None] * f)
        spectra = np.fft.fft(counts, axis=1)
        wanted.append(np.fft.ifft(spectra[0] * spectra[1], axis=0).real.sum(1))
    x = np.concatenate(vectors).astype(np.float32)[None]
    np.testing.assert_allclose(tensor.exact(x)[0], np.concatenate(wanted), rtol=1e-4, atol=1e-4)
    other = codes.TensorSketch(channels, 31, seed=4)
    assert np.abs(other.exact(x)[0] - np.concatenate(wanted)).max() > 0.1


def test_tensor_sketch_is_unbiased() -> None:
    generator = np.random.default_rng(1)
    x = np.stack([gram(generator, 6, 3)[1] for _ in range(2)]).astype(np.float32)
    found = [np.prod(codes.TensorSketch((6,), 16, seed).exact(x), axis=0).sum() for seed in range(2000)]
    assert np.mean(found) == pytest.approx(float(x[0] @ x[1]), abs=4 * float(np.std(found)) / len(found) ** 0.5)


def test_codes_are_as_small_as_they_say() -> None:
    generator = np.random.default_rng(2)
    p = generator.normal(size=(300, 8)).astype(np.float32)
    found = codes.half(p, 4, 0.5)
    assert found.shape == (300, 4) and np.array_equal(found / 0.5, (found / 0.5).astype(np.float16))
    assert 0 < np.abs(found - p[:, :4]).max() <= np.abs(p).max() * 2.0**-11
    found = codes.byte(p, 3, p[:100])
    assert found.shape == (300, 3) and max(len(np.unique(column)) for column in found.T) <= 255
    within = np.abs(p[:, :3]) <= np.abs(p[:100, :3]).max(0)
    step = np.abs(p[:100, :3]).max(0) / 127
    assert (np.abs(found - p[:, :3]) <= 0.5001 * step)[within].all() and not within.all()
    found = codes.product(p, 2, 4, p)
    assert found.shape == (300, 8)
    assert all(len(np.unique(found[:, part], axis=0)) <= 256 for part in (slice(0, 4), slice(4, 8)))
    assert 0 < ((found - p) ** 2).sum() < 0.2 * (p**2).sum()


def test_lists_and_recall_of_distances() -> None:
    x = np.random.default_rng(3).normal(size=(40, 5)).astype(np.float32)
    d = frontier.squared(x)
    direct = ((x[:, None].astype(float) - x[None]) ** 2).sum(2)
    np.testing.assert_allclose(d, direct, atol=1e-9)
    order = np.argsort(direct + np.diag(np.full(40, np.inf)), axis=1)
    assert np.array_equal(frontier.nearest(d, 5, 1), order[:, :5])
    assert np.array_equal(frontier.nearest(d, 13, -1), np.argsort(-direct, axis=1)[:, :13])
    assert frontier.shared(order[:, :5], order[:, :5]) == 1
    assert frontier.shared(order[:, 5:10], order[:, :5]) == 0
    assert frontier.shared(order[:, 1:6], order[:, :5]) == pytest.approx(0.8)
    point = frontier.Truth(x).point("s", "pca", 1, 1, direct.copy())
    assert (point.near, point.far, point.short) == (1, 1, 1)


def test_queries_are_not_fitted_on() -> None:
    options = many.Options(queries=40, block=20, rows=100)
    for seed in range(20):
        blocks, (start, stop) = many.split(1000, options, seed)
        rows = np.concatenate([np.arange(b * 20, (b + 1) * 20) for b in blocks])
        assert stop - start == 100 and rows.max() < 1000
        assert not ((rows >= start) & (rows < stop)).any()
    with pytest.raises(ValueError, match="--crops 100"):
        many.split(100, many.Options(queries=80, block=40, rows=50), 0)
    with pytest.raises(ValueError, match=r"--many\.queries 30"):
        many.Options(queries=30, block=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of noise of several kinds."""
    root = tmp_path_factory.mktemp("noise")
    generator = np.random.default_rng(0)
    for i in range(3):
        picture = generator.integers(0, 60 * (i + 1), (80, 90, 3)).astype(np.uint8)
        Image.fromarray(picture).save(root / f"{i}.png")
    return root


def test_the_bench(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.bench.style.sets.CROPS_OF_EACH", 7)
    monkeypatch.setattr(style_index, "Tracker", lambda folder, _, **about: Tracker(folder, None, **about))  # no MLflow
    words = ["style-index", "--folder", str(tmp_path), "--sets", str(folder), "demo", "--weights", "random"]
    words += ["--sample", "40", "--ratios", "500", "4000", "--crops", "120", "--many.queries", "20"]
    words += ["--many.block", "10", "--many.rows", "40", "--many.directions", "8", "--many.opened", "2"]
    words += ["--tracking", "there", "--only", "frontier", "reranked"]
    command.measure("bench", "", words)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0.3 < found["recall5_at_500_least"] <= found["recall5_at_500"] <= 1
    assert 0.3 < found["recall13_at_500_least"] <= found["recall13_at_500"] <= 1
    assert found["recall5_many_at_4000"] < found["recall5_reranked_at_4000"] <= 1
    assert Image.open(tmp_path / "frontier.png").size[0] > 1000
    kept = json.loads((tmp_path / "frontier.json").read_text())
    assert {p["kind"] for p in kept["points"]} == set(frontier.KINDS) - {"pca-product"}  # too few rows for that
    assert all(p["bytes"] <= 4 * 43_232 / p["ratio"] for p in kept["points"])
    assert (tmp_path / "run" / "pictures" / "frontier-0.png").exists()
    shares = many.certified_shares(
        f"{tmp_path}/crops-120", str(tmp_path), many.Options(20, 10, 40, directions=(8, 1), opened=2), 0
    )
    assert 0 < shares["certified_share_120"] <= shares["certified_share_120_1"] <= 1


def test_wrong_certified_lists_are_found_out(tmp_path: Path) -> None:
    low_rank(str(tmp_path / "crops"), 200, 60)
    options = many.Options(20, 10, 40, directions=(8,), opened=2)
    vectors = Vectors(str(tmp_path / "crops"))
    truth = many.exact(vectors, options, 0, {})
    units.save_arrays(
        many._saved(str(tmp_path / "crops"), options, 0), own=truth.own, near=truth.near[:, ::-1], far=truth.far
    )
    with pytest.raises(RuntimeError, match="near lists"):
        many.certified_shares(str(tmp_path / "crops"), str(tmp_path), options, 0)


def test_one_list_of_a_tile_is_that_of_both(tmp_path: Path) -> None:
    options = speed.Options(n=64, d=512, block=32, rounds=1)
    low_rank(str(tmp_path / "vectors"), 64, 512)
    assert 0 < speed.near_far(str(tmp_path), options)["near_far_ratio"] < 10
    both, near, far = (units.load_arrays(f"{tmp_path}/{n}/tile-00000.npz") for n in ("both", "near", "far"))
    assert {**near, **far}.keys() == both.keys() and not (near.keys() & far.keys()) - {"valid"}
    for name, values in {**near, **far}.items():
        assert np.array_equal(values, both[name])


def test_a_rate_is_of_the_time_in_which_all_work() -> None:
    first, late = [(1, t) for t in (3.0, 5.0, 7.0)], [(2, t) for t in (9.0, 10.0)]
    assert scaling.rate([*late, *first], 2) == 2 / 4 + 1
    assert scaling.rate(first, 1) == 0.5
    with pytest.raises(RuntimeError, match=r"2 workers wanted, items done by each: \[3, 1\]"):
        scaling.rate([*first, late[0]], 2)


def test_sets_need_two_names() -> None:
    with pytest.raises(ValueError, match="--sets demo: give two"):
        style_index.Config(folder="x", sets=("demo",))
