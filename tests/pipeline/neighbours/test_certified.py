"""Certified lists: those of brute force on data of every kind, from few compared rows; bounds that hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.artifacts import artifact, pool
from pipeline.neighbours import certified, lists
from pipeline.neighbours.options import METHODS, Certified, Exact
from pipeline.neighbours.run import Search
from pipeline.style import descriptors
from pipeline.style.vectors import Vectors, schema
from tests.pipeline.neighbours.test_exact import naive, same

Array = np.ndarray


def store(folder: Path, x: Array, valid: Array, part: int = 40) -> str:
    """A descriptor artifact of these float32 vectors."""
    inputs = {"dataset": "x", "split": "train", "field": "target", "weights": "random:0"}
    artifact.begin(str(folder), "descriptors", descriptors.VERSION, inputs, {"size": 0})
    form = schema(x.shape[1])
    starts = range(0, len(x), part)
    for number, start in enumerate(starts):
        some = range(start, min(start + part, len(x)))
        cells = [x[i].tobytes() if valid[i] else None for i in some]
        table = pa.table([[f"{i:08d}" for i in some], cells, [None if c else "bad" for c in cells]], schema=form)
        artifact.publish_rows(str(folder), number, form, [table.slice(i, 7) for i in range(0, len(some), 7)])
    notes = {"bad": int((~valid).sum()), "weights": "random", "random_weights": True}
    artifact.finish(str(folder), range(len(starts)), notes)
    return str(folder)


def like_grams(count: int, dimension: int = 300, seed: int = 0) -> Array:
    generator = np.random.default_rng(seed)
    base = np.random.default_rng(9).normal(size=(dimension, dimension))
    x = (generator.normal(size=(count, dimension)) * np.arange(1, dimension + 1) ** -1.2) @ base
    x *= np.exp(0.5 * generator.normal(size=(count, 1)))
    return (x + 50).astype(np.float32)


def clustered(count: int) -> Array:
    generator = np.random.default_rng(1)
    return (like_grams(count)[generator.integers(8, size=count)] + generator.normal(size=(count, 300)) * 0.01).astype(
        np.float32
    )


def outlier(count: int) -> Array:
    x = like_grams(count)
    x[count // 2] += 1e4
    return x


def sphere(count: int) -> Array:
    x = np.random.default_rng(2).normal(size=(count, 300))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def duplicated(count: int) -> Array:
    return np.repeat(like_grams(-(-count // 6)), 6, axis=0)[:count]


KINDS = {
    "like Grams": like_grams,
    "clustered": clustered,
    "duplicated": duplicated,
    "one far outlier": outlier,
    "on a sphere": sphere,
    "all equal": lambda count: np.ones((count, 20), np.float32),
}


def found(source: str, folder: Path, **changes: Any) -> tuple[dict[str, Array], dict[str, Any]]:
    options = Certified(**{"directions": 24, "workers": 1, **changes})
    card = Search(source, str(folder), options).run()
    return lists.read_lists(str(folder), card["parts"], options.near, options.far)[1], card["notes"]


@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_those_of_brute_force(kind: str, tmp_path: Path, no_ray: None) -> None:
    x, valid = KINDS[kind](160), np.ones(160, bool)
    valid[[0, 31, 159]] = False
    source = store(tmp_path / "d", x, valid)
    lists, notes = found(source, tmp_path / "n", block=70)
    same(lists, naive(x, valid, 5, 13))
    assert 18 / 156 <= notes["compared_share"] <= notes["compared_share_largest"] <= 1
    assert notes["certified_share"] == 1


def test_as_many_neighbours_as_there_are_others(tmp_path: Path, no_ray: None) -> None:
    x, valid = like_grams(15), np.ones(15, bool)
    lists, _ = found(store(tmp_path / "d", x, valid), tmp_path / "n", near=14, far=14)
    same(lists, naive(x, valid, 14, 14))


def test_few_rows_are_compared(tmp_path: Path, no_ray: None) -> None:
    x = like_grams(700, seed=3)
    source = store(tmp_path / "d", x, np.ones(700, bool))
    shares = [found(source, tmp_path / str(m), directions=m)[1]["compared_share"] for m in (4, 200)]
    assert 18 / 699 <= shares[1] < 0.04 and shares[0] > 2 * shares[1]


def test_same_bytes_as_the_exact_search_for_any_workers_and_blocks(
    tmp_path: Path, ray_cluster: None, inline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, valid = like_grams(200), np.ones(200, bool)
    valid[17] = False
    source = store(tmp_path / "d", x, valid)
    found(source, tmp_path / "two", workers=2, block=64)
    monkeypatch.setattr(pool, "each", inline)
    found(source, tmp_path / "one", block=200)
    Search(source, str(tmp_path / "exact"), Exact(workers=1)).run()

    def parts(name: str) -> list[bytes]:
        return [p.read_bytes() for p in sorted((tmp_path / name).glob("*.parquet"))]

    assert parts("one") == parts("two") == parts("exact") and len(parts("one")) == 5
    assert (tmp_path / "one" / "card.json").read_bytes() == (tmp_path / "two" / "card.json").read_bytes()


def test_an_interrupted_search_goes_on(tmp_path: Path, no_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    x = like_grams(150)
    source = store(tmp_path / "d", x, np.ones(150, bool))
    found(source, tmp_path / "calm", block=40)
    lists, done = certified.Worker.lists, []

    def stops(self: certified.Worker, block: int) -> Any:
        if block == 2:
            raise KeyboardInterrupt
        done.append(block)
        return lists(self, block)

    monkeypatch.setattr(certified.Worker, "lists", stops)
    with pytest.raises(KeyboardInterrupt):
        found(source, tmp_path / "n", block=40)
    monkeypatch.setattr(certified.Worker, "lists", lambda self, b: done.append(b) or lists(self, b))
    found(source, tmp_path / "n", block=40)
    assert done == [0, 1, 2, 3]
    for path in (tmp_path / "calm").glob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "n" / path.name).read_bytes()


@pytest.mark.parametrize("method", ["exact", "certified", "index"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_vectors_that_are_no_numbers_are_refused(method: str, value: float, tmp_path: Path, no_ray: None) -> None:
    x = like_grams(60)
    x[7, 3] = value
    source = store(tmp_path / "d", x, np.ones(60, bool))
    with pytest.raises(ValueError, match="not finite"), np.errstate(all="ignore"):
        Search(source, str(tmp_path / "n"), METHODS[method](workers=1)).run()


def test_another_request_and_an_edited_card_are_refused(tmp_path: Path, no_ray: None) -> None:
    source = store(tmp_path / "d", like_grams(60), np.ones(60, bool))
    found(source, tmp_path / "n")
    with pytest.raises(ValueError, match="holds another neighbours"):  # before it is done in earnest
        Search(source, str(tmp_path / "n"), Certified(near=4)).check()
    path = tmp_path / "d" / "card.json"
    path.write_text(path.read_text().replace('"bad": 0', '"bad": 1'))
    with pytest.raises(ValueError, match=r"card\.json is damaged or was edited"):
        found(source, tmp_path / "other")


@pytest.mark.parametrize("exponent", [-23, -22, -21.5, -21])
def test_vectors_whose_squares_underflow(tmp_path: Path, no_ray: None, exponent: float) -> None:
    x = (np.random.default_rng(0).standard_normal((120, 20)) * 10**exponent).astype(np.float32)
    source, valid = store(tmp_path / "d", x, np.ones(120, bool)), np.ones(120, bool)
    wanted = naive(x, valid, 5, 13)
    for method in ("exact", "certified", "index"):
        given = {"directions": 8} if method == "certified" else {}
        Search(source, str(tmp_path / method), METHODS[method](workers=1, **given)).run()
        found = vars(lists.load(str(tmp_path / method)))
        for name in ("near", "far") if method != "index" else ("far",):
            np.testing.assert_array_equal(found[name], wanted[name])


def test_a_joined_file_that_is_damaged_is_made_again(tmp_path: Path) -> None:
    source = store(tmp_path / "d", like_grams(160), np.ones(160, bool))
    plan = certified.plan(Vectors(source), str(tmp_path), 5, 13, block=40, directions=8)
    for item in plan.items([0]):
        certified.Worker(plan).run(item)
    path, lists = tmp_path / Path(plan.scratch).name / "all.npy", plan.path(("lists", 0))
    wanted, sound = Path(lists).read_bytes(), path.read_bytes()
    for damaged in (sound[:1000], sound[:-500] + bytes(500)):
        path.write_bytes(damaged)
        Path(lists).unlink()
        certified.Worker(plan).run(("lists", 0))
        assert path.read_bytes() == sound and Path(lists).read_bytes() == wanted
    Path(plan.path(("project", 0))).write_bytes(b"PK")
    Path(lists).unlink()
    with pytest.raises(ValueError, match=r"project-00000.npz is damaged .* run the same command again"):
        certified.Worker(plan).run(("lists", 0))
