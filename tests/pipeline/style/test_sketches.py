"""Sketches against principal components by SVD, the codec written out coordinate by coordinate, and the jobs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs import describe, neighbours, shard, sketch
from pipeline.artifacts import pool
from pipeline.neighbours.lists import load
from pipeline.neighbours.options import METHODS
from pipeline.search.rows import InMemory
from pipeline.style import sketches
from pipeline.style.codec import MOST_BITS, Codec, allot
from pipeline.style.descriptors import DescribeOptions
from pipeline.style.sketches import Sketch, SketchOptions
from pipeline.style.vectors import Vectors

Array = np.ndarray


def like_grams(count: int, dimension: int = 500, seed: int = 0) -> Array:
    """A steep spectrum around a mean that dwarfs it, with gains of a heavy tail."""
    generator = np.random.default_rng(seed)
    base = np.random.default_rng(99).normal(size=(dimension, dimension))
    x = (generator.normal(size=(count, dimension)) * np.arange(1, dimension + 1) ** -0.7) @ base
    x *= np.exp(0.6 * generator.normal(size=(count, 1)))
    return (x + 50).astype(np.float32)


def fitted(x: Array, **options: Any) -> Sketch:
    return sketches.fit(InMemory(x), np.ones(len(x), bool), SketchOptions(**options))[0]


def closest(apart: Array, k: int) -> Array:
    apart = apart + np.diag(np.full(len(apart), np.inf))
    return np.argsort(apart, axis=1)[:, :k]


def overlap(a: Array, b: Array) -> float:
    return float(np.mean([len(np.intersect1d(p, q)) / len(p) for p, q in zip(a, b, strict=True)]))


def squared(x: Array) -> Array:
    wide = x.astype(np.float64)
    return ((wide[:, None] - wide[None]) ** 2).sum(-1)


def estimated(made: Sketch, x: Array) -> Array:
    codes = made(x)
    private = made.codec.private(codes)
    return squared(made.codec.decode(codes)) + private[:, None] + private


def test_directions_are_the_principal_ones() -> None:
    x = like_grams(400)
    path_rows, k = 300, 12
    chosen = np.random.default_rng(0).permutation(400)[:path_rows]  # as fit chooses: three quarters of all
    made = sketches.fit(InMemory(x), np.ones(400, bool), SketchOptions(components=k))[0]
    centred = x[chosen].astype(np.float64) - x[chosen].astype(np.float64).mean(0)
    _, _, v = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(made.mean, x[chosen].astype(np.float64).mean(0), rtol=1e-5)
    np.testing.assert_allclose(made.basis @ made.basis.T, np.eye(k), atol=1e-5)
    cosines = np.abs(np.einsum("kd,kd->k", made.basis, v[:k]))
    assert cosines.min() > 0.999  # each by itself, in order


def test_bits_go_to_the_largest_error() -> None:
    variances = np.array([64.0, 4.0, 1.0, 0.01])
    errors, wanted = variances.copy(), np.zeros(4, int)
    for _ in range(9):  # written out: 1 bit leaves 0.363, each further one a quarter
        i = int(errors.argmax())
        wanted[i] += 1
        errors[i] *= 0.363 if wanted[i] == 1 else 0.25
    assert allot(variances, 9).tolist() == wanted.tolist() == [5, 3, 1, 0]
    assert allot(variances, 10_000).tolist() == [MOST_BITS] * 4


def test_codes_are_those_of_each_coordinate_by_itself() -> None:
    codec = Codec((5, 3, 0, 1), (0.5, 0.1, 0.2, 0.05), (2.0, 1.5, 1.0, 1.0), 3.0, 0.5)
    generator = np.random.default_rng(0)
    p = (generator.normal(size=(50, 4)) * [2, 0.5, 0.3, 0.2]).astype(np.float32)
    norms = np.linalg.norm(p.astype(np.float64), axis=1) * generator.uniform(1.0, 1.5, 50)
    p[7], norms[7] = 0, 0
    codes = codec.encode(p, norms)
    assert codec.bytes == codes.shape[1] == 4 + 2 and codec.dimension == 5
    found, private = codec.decode(codes), codec.private(codes)
    for row in range(50):
        gain = 0.0
        if norms[row] > 0:
            step = round((math.log2(norms[row] / 3.0) + 16) * 2048)
            gain = 3.0 * 2 ** (step / 2048 - 16)
            assert abs(gain / norms[row] - 1) < 2e-4
        v = []
        for value, b, s, limit in zip(p[row].tolist(), codec.bits, codec.scales, codec.limits, strict=True):
            width = 2 * limit / 2**b
            y = math.asinh(value / gain / s) if gain else 0.0
            code = min(max(math.floor((y + limit) / width), 0), 2**b - 1)
            v.append(gain * s * math.sinh((code + 0.5) * width - limit))
        np.testing.assert_allclose(found[row, :4], v, rtol=1e-5, atol=1e-6)
        left = max(0.0, norms[row] ** 2 - float((p[row].astype(float) ** 2).sum()))
        rest = math.sqrt(left + sum((a - b) ** 2 for a, b in zip(p[row].tolist(), v, strict=True)))
        assert abs(found[row, 4] - math.sqrt(0.5) * rest) <= 3e-4 * rest
        assert abs(private[row] - 0.5 * rest**2) <= 6e-4 * rest**2
    assert not found[7].any() and private[7] == 0


def test_the_rest_is_all_that_is_left_out() -> None:
    x = like_grams(600)
    made = fitted(x[:500], bytes=40)
    codes = made(x)
    v = made.codec.decode(codes)[:, :-1].astype(np.float64) @ made.basis.astype(np.float64)
    left = np.linalg.norm(x.astype(np.float64) - made.mean - v, axis=1)
    np.testing.assert_allclose(made.codec.rests(codes), left, rtol=1e-3)


def test_neighbours_by_codes() -> None:
    """Rows that were not fitted on; without the rest, or with evenly spread bits, less is found."""
    x = like_grams(1300)
    made, held_out = fitted(x[:1000], bytes=20), x[1000:]
    wanted = closest(squared(held_out), 5)
    found = overlap(wanted, closest(estimated(made, held_out), 5))
    plain = overlap(wanted, closest(squared(made.codec.decode(made(held_out))[:, :-1]), 5))
    assert 0.7 < found < 0.98 and found > plain + 0.01, (found, plain)
    k = len(made.codec.bits)
    even = Codec((4,) * k, made.codec.scales, made.codec.limits, made.codec.gain, made.codec.cosine)
    assert found > overlap(wanted, closest(estimated(Sketch(made.mean, made.basis, even), held_out), 5)) + 0.01
    assert made.codec.bytes == 20 and k == 32


def test_a_projection_is_unbiased_and_fits_nothing() -> None:
    x = like_grams(60)
    made = fitted(x, kind="projection", bytes=404)
    assert made.codec.bytes == 404 and len(made.codec.bits) == 400 and not made.mean.any()
    x = x - 50  # a projection does not centre: without a mean its gain is the rows' own
    ratio = (estimated(made, x) / np.maximum(squared(x), 1e-9))[~np.eye(60, dtype=bool)]
    assert abs(ratio.mean() - 1) < 0.05 and 0.02 < ratio.std() < 2.0 * math.sqrt(2 / 400)
    again = fitted(like_grams(40, seed=3), kind="projection", bytes=404)
    assert (again.basis == made.basis).all() and again.codec.bits == made.codec.bits
    assert not made.codec.private(made(x)).any()


def test_what_cannot_be_fitted() -> None:
    with pytest.raises(ValueError, match="15 described images"):
        fitted(like_grams(15))
    with pytest.raises(ValueError, match="all have the same descriptor"):
        fitted(np.ones((40, 30), np.float32))
    with pytest.raises(ValueError, match="--bytes 4"):
        SketchOptions(bytes=4)
    few = fitted(like_grams(16, 40), bytes=100)  # no more directions than rows show
    assert len(few.codec.bits) == 11 and few.codec.bytes <= 100


LAYERS = ("relu1_1", "relu2_1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, inline: Any) -> Path:
    """40 textures in shards of 9 (one cannot be read), described; `sketch`: fitted to them; `codes`: coded."""
    root = tmp_path_factory.mktemp("sketches")
    generator = np.random.default_rng(0)
    (root / "source").mkdir()
    for i in range(40):
        pixels = generator.integers(5 * i, 5 * i + 50, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels[: 1 if i == 11 else 16]).save(root / "source" / f"{i:02d}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "each", inline)
        shard.run(shard.Config(source=str(root / "source"), output=str(root / "data"), shard_size=9, workers=1))
        describe.run(described(root, "exact"))
        sketch.run(sketch.Config(str(root / "exact"), str(root / "sketch"), fit=SketchOptions(bytes=48)))
        sketch.run(sketch.Config(str(root / "exact"), str(root / "codes"), sketch=str(root / "sketch")))
        # So rough that what is left out is as large as what is kept.
        sketch.run(sketch.Config(str(root / "exact"), str(root / "rough"), fit=SketchOptions(bytes=8, components=2)))
        sketch.run(sketch.Config(str(root / "exact"), str(root / "rough codes"), sketch=str(root / "rough")))
    return root


def described(root: Path, output: str, **changes: Any) -> describe.Config:
    options = DescribeOptions("vgg16", LAYERS)
    given = {"weights": "random", "describe": options, "workers": 1, "max_bad_share": 0.1, **changes}
    return describe.Config(str(root / "data"), str(root / output), **given)


def test_codes_of_the_job_are_those_of_the_vectors(made: Path, tmp_path: Path, no_ray: None) -> None:
    exact, codes = (Vectors(str(made / name)) for name in ("exact", "codes"))
    x, valid = exact.rows(0, 40)
    fitted_sketch, card = sketches.load(str(made / "sketch"))
    assert codes.codec == fitted_sketch.codec and codes.bytes == 48 and (~valid).sum() == 1
    found, good = codes.rows(0, 40)
    np.testing.assert_array_equal(good, valid)
    # Part by part, as the job: a product of other rows beside it may round one number to the other side of a step.
    for part in np.split(np.arange(40), 5):
        there = part[valid[part]]
        np.testing.assert_array_equal(found[there], fitted_sketch.codec.decode(fitted_sketch(x[there])))
    assert not found[~valid].any() and not codes.private[~valid].any() and codes.private[valid].min() > 0
    assert card["notes"]["fitted"] + card["notes"]["held_out"] == 39
    assert 0.5 < card["notes"]["variance_kept_held_out"] <= 1
    # Described with the sketch, without the vectors: the same, and nothing of their size is stored.
    describe.run(described(made, str(tmp_path / "direct"), sketch=str(made / "sketch")))
    direct_codes = Vectors(str(tmp_path / "direct"))
    assert (direct_codes.rows(0, 40)[0] == found).mean() > 0.99
    assert (tmp_path / "direct" / "00000.parquet").stat().st_size < 10_000


@pytest.mark.parametrize("method", ["exact", "certified", "index"])
def test_neighbours_of_codes_are_those_of_the_estimated_distance(
    made: Path, tmp_path: Path, no_ray: None, method: Any
) -> None:
    given: dict[str, Any] = {"exact": {"block": 7}, "certified": {"block": 7, "directions": 8}}.get(method, {})
    search: Any = METHODS[method](workers=1, **given)
    config = neighbours.Config(
        data=str(made / "data"),
        descriptors=str(made / "rough codes"),
        output=str(tmp_path / "n"),
        search=search,
    )
    neighbours.run(config)
    found, vectors = load(str(tmp_path / "n")), Vectors(str(made / "rough codes"))
    x, valid = vectors.rows(0, 40)
    apart = squared(x) + vectors.private[:, None] + vectors.private
    changed = 0
    for i in np.flatnonzero(valid):
        others = [j for j in range(40) if j != i and valid[j]]
        assert found.near[i].tolist() == sorted(others, key=lambda j: (apart[i, j], j))[:5]
        assert found.far[i].tolist() == sorted(others, key=lambda j: (-apart[i, j], j))[:13]
        np.testing.assert_allclose(found.near_distance[i], apart[i, found.near[i]], rtol=1e-12)
        np.testing.assert_allclose(found.far_distance[i], apart[i, found.far[i]], rtol=1e-12)
        without = ((x - x[i]).astype(np.float64) ** 2).sum(1)
        changed += found.near[i].tolist() != sorted(others, key=lambda j: (without[j], j))[:5]
    assert changed >= 5  # what each row has to itself decides


def test_what_the_jobs_refuse(made: Path, tmp_path: Path, no_ray: None) -> None:
    with pytest.raises(ValueError, match="are codes already"):
        sketch.run(sketch.Config(str(made / "codes"), str(tmp_path / "a")))
    with pytest.raises(ValueError, match=r"was fitted with layers \['relu1_1', 'relu2_1'\]"):
        other = DescribeOptions("vgg16", ("relu1_1",))
        describe.run(described(made, str(tmp_path / "b"), sketch=str(made / "sketch"), describe=other))
    with pytest.raises(ValueError, match="was fitted with weights"):
        describe.run(described(made, str(tmp_path / "c"), sketch=str(made / "sketch"), weights_seed=1))
    with pytest.raises(ValueError, match="sketch"):
        describe.run(described(made, "exact", sketch=str(made / "sketch")))  # other results lie there
