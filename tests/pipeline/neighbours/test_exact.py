"""Neighbour lists against a plain double loop in float64, for any schedule; what cannot be found is a clear error."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from jobs import describe, neighbours, shard
from models.common import vgg
from pipeline.artifacts import artifact, pool
from pipeline.neighbours import blocks, exact, units
from pipeline.neighbours.exact import Plan
from pipeline.neighbours.lists import Parts, centre, load, read_lists
from pipeline.neighbours.options import Exact
from pipeline.search.best import Candidates
from pipeline.search.bounds import Kind
from pipeline.style import descriptors
from pipeline.style.descriptors import DescribeOptions
from pipeline.style.vectors import Vectors, schema

LAYERS = ("relu1_1", "relu2_1")
DIMENSION = sum(c * (c + 1) // 2 for c in (64, 128))
Lists = dict[str, np.ndarray]


def naive(x: np.ndarray, valid: np.ndarray, near: int, far: int) -> Lists:
    """Double loop in float64; ties by position, the anchor and rows without a vector left out."""
    found: dict[str, list[Any]] = {"near": [], "near_distance": [], "far": [], "far_distance": []}
    wide = x.astype(np.float64)
    for i in range(len(x)):
        if not valid[i]:
            for name, k, missing in (("near", near, -1), ("far", far, -1)):
                found[name].append([missing] * k)
                found[f"{name}_distance"].append([np.nan] * k)
            continue
        pairs = [(float(((wide[j] - wide[i]) ** 2).sum()), j) for j in range(len(x)) if j != i and valid[j]]
        for name, k, key in (("near", near, lambda p: p), ("far", far, lambda p: (-p[0], p[1]))):
            best = sorted(pairs, key=key)[:k]
            found[name].append([j for _, j in best])
            found[f"{name}_distance"].append([d for d, _ in best])
    return {name: np.array(rows) for name, rows in found.items()}


def store(folder: Path, x: np.ndarray, valid: np.ndarray, parts: Sequence[int]) -> str:
    """A descriptor artifact with these vectors, in parts of the given sizes."""
    options = {"net": "vgg16", "layers": list(LAYERS), "size": 0, "precision": "fp32"}
    inputs = {"dataset": "x", "split": "train", "field": "target", "weights": "random:0"}
    artifact.begin(str(folder), "descriptors", descriptors.VERSION, inputs, options)
    start = 0
    for number, rows in enumerate(parts):
        cells = [x[i].tobytes() if valid[i] else None for i in range(start, start + rows)]
        keys, errors = [f"{i:08d}" for i in range(start, start + rows)], [None if c else "bad" for c in cells]
        table = pa.table([keys, cells, errors], schema=schema(DIMENSION))
        # Row groups of three: blocks begin and end within them.
        groups = [table.slice(i, 3) for i in range(0, rows, 3)]
        artifact.publish_rows(str(folder), number, schema(DIMENSION), groups)
        start += rows
    artifact.finish(str(folder), range(len(parts)), {"bad": int((~valid).sum())})
    return str(folder)


def find(
    source: str, folder: Path, near: int, far: int, block: int, spans: int, margin: int, shuffle: int = 0, **where: Any
) -> Lists:
    """The job's own steps without Ray, the tiles in any order. The scratch folder is left."""
    vectors = Vectors(source)
    spans = min(spans, -(-len(vectors) // block))
    plan = Plan(source, str(folder / "tiles"), near, far, len(vectors), block, margin, spans, **where)
    parts = Parts(plan, str(folder), vectors.part_rows, list(range(len(vectors.part_rows))))
    items = plan.items(parts.blocks())
    np.random.default_rng(shuffle).shuffle(items)
    work = units.unit_worker(plan, centre(vectors))
    for item in sorted(items, key=lambda item: item[0], reverse=True):  # all tiles, then all lists
        counts = work(item)
        folder_counts.append(counts)
    assert parts.publish() == list(range(len(vectors.part_rows))) and not plan.items(parts.blocks())
    return read_lists(str(folder), len(vectors.part_rows), near, far)[1]


folder_counts: list[dict[str, Any]] = []


def same(found: Lists, wanted: Lists) -> None:
    for name in ("near", "far"):
        np.testing.assert_array_equal(found[name], wanted[name])
        np.testing.assert_allclose(found[f"{name}_distance"], wanted[f"{name}_distance"], rtol=1e-12, atol=0)


def vectors_like_grams(count: int, seed: int = 0) -> np.ndarray:
    """Low rank plus noise around a mean that dwarfs it, with outliers and exact duplicates: what Grams are like."""
    generator = np.random.default_rng(seed)
    x = 30 + generator.normal(size=(count, 6)) @ generator.normal(size=(6, DIMENSION))
    x += 0.01 * generator.normal(size=x.shape)
    x[::17] *= 3
    x = x.astype(np.float32)
    x[5], x[count - 2] = x[1], x[1]
    return x


def test_lists_equal_the_double_loop_and_bytes_do_not_depend_on_the_schedule(tmp_path: Path) -> None:
    x = vectors_like_grams(41)
    valid = np.ones(41, bool)
    valid[[0, 7, 40]] = False
    source = store(tmp_path / "d", x, valid, (10, 0, 20, 11))
    wanted = naive(x, valid, 5, 13)
    assert wanted["near"][1][:2].tolist() == [5, 39]  # the duplicates, in order of position
    seen = set()
    for number, (block, spans, margin) in enumerate([(64, 1, 16), (7, 1, 1), (16, 3, 4), (1, 1, 16), (10, 4, 40)]):
        folder = tmp_path / str(number)
        same(find(source, folder, 5, 13, block, spans, margin, shuffle=number), wanted)
        seen.add(b"".join(path.read_bytes() for path in sorted(folder.glob("*.parquet"))))
    assert len(seen) == 1


def test_lists_are_given_out_when_no_worker_has_their_tiles_in_hand(tmp_path: Path) -> None:
    source = store(tmp_path / "d", vectors_like_grams(40), np.ones(40, bool), (40,))
    plan = exact.plan(Vectors(source), str(tmp_path), 5, 13, block=8, workers=4, spans=2)
    items = plan.items([0, 2, 3, 4])
    tiles = [("tile", n) for n in (0, 1, 4, 5, 6, 7, 8, 9)]
    assert items == [*tiles, ("lists", 0), ("lists", 2), ("lists", 3), ("lists", 4)]  # three blocks ahead
    items = replace(plan, ahead=1).items([0, 2])
    assert items == [("tile", 0), ("tile", 1), ("tile", 4), ("tile", 5), ("lists", 0), ("lists", 2)]
    many = exact.plan(Vectors(source), str(tmp_path), 5, 13, block=1, workers=2)
    order = many.items(list(range(40)))
    assert len(order) == 80
    for number in range(40):
        given = order.index(("lists", number))
        assert given - order.index(("tile", number)) >= 2 and given < 2 * number + 8


@pytest.mark.parametrize("kind", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("memory", [0, 3 * 7 * DIMENSION * 4, 1 << 30])  # no block stays, three do, all
def test_a_device_gives_the_same_bytes(
    tmp_path: Path, kind: Kind, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of a GPU, on torch's CPU by its number: whatever products are rounded to and however few blocks stay."""
    x, valid = vectors_like_grams(41), np.ones(41, bool)
    valid[[3, 40]] = False
    x[10:14] = x[9]
    source = store(tmp_path / "d", x, valid, (20, 21))
    monkeypatch.setattr(blocks, "_free", lambda device: memory / blocks.SHARE)
    reads: list[int] = []
    rows = Vectors.rows
    monkeypatch.setattr(Vectors, "rows", lambda self, a, b, out=None: (reads.append(a), rows(self, a, b, out))[1])
    for number, (margin, where) in enumerate([(16, {}), (16, {"device": "cpu:0", "products": kind}), (1, {})]):
        (tmp_path / str(number)).mkdir()
        reads.clear()
        found = find(source, tmp_path / str(number), 5, 13, 7, 2, margin, **where)
        if where:
            often = sum(reads.count(first) for first in (7, 14, 28))  # not those of the mean, in runs of three
    assert often == 3 if memory == 1 << 30 else often > 3
    same(found, naive(x, valid, 5, 13))
    assert part_bytes(tmp_path / "0") == part_bytes(tmp_path / "1") == part_bytes(tmp_path / "2")


@pytest.mark.parametrize(("kind", "digits"), [("tf32", 11), ("bf16", 8)])
def test_a_nearest_row_that_rounding_puts_behind_others_is_found(tmp_path: Path, kind: Kind, digits: int) -> None:
    """Row 1 is the nearest of row 0, but all its numbers are rounded away from it, and those of rows 2 to 5 towards
    it: with bounds of float32 it would not be among the candidates. Each row is there with the other sign too, so that
    the mean is 0."""
    half, little = 2.0**-digits, 2.0**-19
    values = np.array([1, 1 + half - little, *(1 + half + little * i for i in range(1, 5))], np.float32)
    x, valid = np.concatenate([values, -values])[:, None].repeat(DIMENSION, axis=1), np.ones(12, bool)
    source = store(tmp_path / "d", x, valid, (12,))
    found = find(source, tmp_path / "n", 1, 1, 12, 1, 1, device="cpu:0", products=kind)
    same(found, naive(x, valid, 1, 1))
    assert found["near"][[0, 6], 0].tolist() == [1, 7]


@pytest.mark.parametrize("kind", ["tf32", "bf16"])
def test_rows_that_short_numbers_cannot_tell_apart_are_widened(
    tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows of points far from each other: distances within a row differ by more than a product of float32 is off
    by, and by less than one of short numbers is."""
    monkeypatch.setattr(exact, "OPEN", 3)
    generator = np.random.default_rng(2)
    x = (10 * generator.normal(size=(1, DIMENSION)) * [[1.0], [-1.0]]).repeat(20, axis=0)
    along = generator.normal(size=DIMENSION)
    x += 32 * np.tile(np.arange(-10, 10), 2)[:, None] * along / np.linalg.norm(along)
    x, valid = x.astype(np.float32), np.ones(40, bool)
    source = store(tmp_path / "d", x, valid, (40,))
    widened = {}
    for products in ("fp32", kind):
        folder_counts.clear()
        same(find(source, tmp_path / products, 3, 3, 8, 2, 3, device="cpu:0", products=products), naive(x, valid, 3, 3))
        widened[products] = sum(c.get("near_widened", 0) for c in folder_counts)
    assert widened[kind] > 20 and widened["fp32"] == 0


def test_near_ties_that_float32_cannot_tell_apart_are_widened(tmp_path: Path) -> None:
    # 30 rows at nearly the same distance from each other: the candidates beyond k prove nothing.
    generator = np.random.default_rng(1)
    x = np.full((30, DIMENSION), 100, np.float32) + generator.normal(scale=1e-3, size=(30, DIMENSION)).astype(
        np.float32
    )
    source = store(tmp_path / "d", x, np.ones(30, bool), (30,))
    folder_counts.clear()
    same(find(source, tmp_path / "n", 3, 3, 8, 2, 1), naive(x, np.ones(30, bool), 3, 3))
    assert sum(c.get("near_widened", 0) for c in folder_counts) > 0


def test_all_identical(tmp_path: Path) -> None:
    x = np.repeat(np.random.default_rng(0).normal(size=(1, DIMENSION)).astype(np.float32), 9, axis=0)
    found = find(store(tmp_path / "d", x, np.ones(9, bool), (5, 4)), tmp_path / "n", 2, 3, 4, 2, 1)
    assert not found["near_distance"].any() and not found["far_distance"].any()
    assert found["near"][[0, 1, 8]].tolist() == [[1, 2], [0, 2], [0, 1]]
    assert found["far"][[0, 1, 8]].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 2]]


def test_merging_candidates_is_associative_and_commutative() -> None:
    generator = np.random.default_rng(0)
    parts = []
    for p in range(3):
        bounds = np.sort(generator.integers(0, 6, (4, 5)).astype(float), axis=1)
        parts.append(
            Candidates(bounds, np.ones((4, 5)), generator.permuted(np.tile(np.arange(5), (4, 1)), axis=1) + 5 * p)
        )
    a, b, c = parts
    merged = [
        Candidates.merge([a, b, c]),
        Candidates.merge([c, a, b]),
        Candidates.merge([Candidates.merge([a, b]), c]),
        Candidates.merge([a, Candidates.merge([c, b])]),
    ]
    for other in merged[1:]:
        np.testing.assert_array_equal(other.columns, merged[0].columns)
        np.testing.assert_array_equal(other.bounds, merged[0].bounds)


def test_a_row_is_certified_only_when_what_was_left_out_is_out_of_reach() -> None:
    bounds = np.array([[1.0, 2.0, 5.0], [1.0, 2.0, 2.4], [1.0, 2.0, np.inf], [1.0, 2.0, 2.5]])
    columns = np.array([[0, 1, 2], [0, 1, 2], [0, 1, -1], [0, 1, 2]])
    reach, finalists, certified = Candidates(bounds, np.full((4, 3), 0.5), columns).judge(2)
    assert reach.tolist() == [2.5, 2.5, 2.5, 2.5]
    assert finalists.tolist() == [[True, True, False], [True, True, True], [True, True, False], [True, True, True]]
    assert certified.tolist() == [True, False, True, False]  # at the reach itself a tie may have been left out


class Made:
    """A small data set of textures, described, in one folder."""

    def __init__(self, root: Path, count: int, inline: Any, seed: int = 0) -> None:
        self.root, self.data, self.described = root, str(root / "data"), str(root / "described")
        generator = np.random.default_rng(seed)
        for i in range(count):
            level = 40 * (i % 3)
            pixels = generator.integers(level, level + 100, (16, 16, 3), dtype=np.uint8)
            path = root / "source" / "train" / "abc"[i % 3] / f"{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pool, "each", inline)
            shard.run(shard.Config(source=str(root / "source"), output=self.data, shard_size=5, workers=1))
            options = DescribeOptions("vgg16", LAYERS)
            describe.run(describe.Config(self.data, self.described, "random", describe=options, workers=1))

    def config(self, output: Path, descriptors: str = "", **changes: Any) -> neighbours.Config:
        search = Exact(**{"near": 3, "far": 4, "workers": 1, **changes})
        return neighbours.Config(descriptors or self.described, str(output), search, self.data)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, inline: Any) -> Made:
    return Made(tmp_path_factory.mktemp("neighbours"), 14, inline)


def part_bytes(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.parquet"))]


def test_the_job_in_this_process_and_on_two_workers_and_a_resume(
    made: Made, tmp_path: Path, ray_cluster: None, inline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [neighbours.run(made.config(tmp_path / "2", workers=2, block=4))]
    monkeypatch.setattr(pool, "each", inline)
    cards.append(neighbours.run(made.config(tmp_path / "0", block=0)))
    cards.append(neighbours.run(made.config(tmp_path / "1", block=6, spans=2)))
    assert cards[0] == cards[1] == cards[2]
    parts = [part_bytes(tmp_path / n) for n in "102"]
    assert len(parts[0]) == 3 and parts[0] == parts[1] == parts[2]
    x, valid = Vectors(made.described).rows(0, 14)
    found = load(str(tmp_path / "2"))
    same(vars(found), naive(x, valid, 3, 4))
    assert found.keys == [f"{i:08d}" for i in range(14)]
    assert cards[0]["notes"]["random_weights"] and 0 <= cards[0]["notes"]["same_label_closest"] <= 1
    assert Image.open(io.BytesIO((tmp_path / "1" / "sheet.png").read_bytes())).width > 500
    assert not list((tmp_path / "1").glob("tiles-*"))
    # Resume: one part missing.
    for name in ("card.json", "00001.json", "00001.parquet"):
        (tmp_path / "1" / name).unlink()
    kept = (tmp_path / "1" / "00000.parquet").stat().st_mtime_ns
    assert neighbours.run(made.config(tmp_path / "1", block=6, spans=2)) == cards[0]
    assert part_bytes(tmp_path / "1") == parts[0]
    assert (tmp_path / "1" / "00000.parquet").stat().st_mtime_ns == kept


def test_finished_tiles_are_not_computed_again(
    made: Made, tmp_path: Path, inline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    done: list[Any] = []

    def failing(make: Any, arguments: Any, items: Any, *_: Any, **__: Any) -> Iterator[tuple[int, Any]]:
        for number, result in inline(make, arguments, items):
            done.append(items[number])
            if len(done) == 5:
                raise Stop
            yield number, result

    monkeypatch.setattr(pool, "each", failing)
    config = made.config(tmp_path / "n", block=5, spans=2)
    with pytest.raises(Stop):
        neighbours.run(config)
    neighbours.run(config)
    assert len(done) == len(set(done)) == 9  # three query blocks, each two tiles and one of lists


@pytest.mark.parametrize("option", ["near", "far"])
def test_more_neighbours_than_there_are(made: Made, tmp_path: Path, option: str) -> None:
    with pytest.raises(ValueError, match=f"--{option} 14: .* has 14 described images, so each has 13 others"):
        neighbours.run(made.config(tmp_path / "n", **{option: 14}))
    assert not (tmp_path / "n").exists()


def test_one_image_only_and_descriptors_of_another_data_set(made: Made, tmp_path: Path, inline: Any) -> None:
    one = Made(tmp_path / "one", 1, inline, seed=1)
    with pytest.raises(ValueError, match="has 1 described images, so each has 0 others"):
        neighbours.run(one.config(tmp_path / "n", near=1, far=1))
    with pytest.raises(ValueError, match=f"--descriptors {made.described} are of another dataset"):
        neighbours.run(one.config(tmp_path / "n", descriptors=made.described))
    with pytest.raises(ValueError, match="wanted descriptors"):
        neighbours.run(one.config(tmp_path / "n", descriptors=one.data))


def test_vectors_of_the_network_have_the_stated_length() -> None:
    assert descriptors.Describer(vgg.VGG("vgg16", LAYERS)).dimension == DIMENSION
