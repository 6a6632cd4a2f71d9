"""Neighbours by index: far lists and, with all lists probed, near lists are the double loop's; the same bytes for any
workers, blocks and kills; the recall on the card is what counting by hand gives."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pytest

from pipeline.artifacts import artifact, pool, storage
from pipeline.neighbours import index, shell, units
from pipeline.neighbours.lists import SCHEMA, _lists, centre, read_lists
from pipeline.neighbours.options import Index
from pipeline.neighbours.run import Search
from pipeline.search import recall, scanning
from pipeline.search.best import Best
from pipeline.search.scanning import Queries, Rows
from pipeline.style import descriptors
from pipeline.style.vectors import Vectors, schema

DIMENSION = 20
Lists = dict[str, np.ndarray]


def store(folder: Path, x: np.ndarray, valid: np.ndarray | None = None, part: int = 1500) -> str:
    """A descriptor artifact with these vectors, in row groups of 700."""
    valid = np.ones(len(x), bool) if valid is None else valid
    inputs = {"dataset": "x", "split": "train", "field": "target", "weights": "random:0"}
    artifact.begin(str(folder), "descriptors", descriptors.VERSION, inputs, {})
    form = schema(x.shape[1])
    starts = range(0, len(x), part)
    for number, start in enumerate(starts):
        there = range(start, min(start + part, len(x)))
        cells = [x[i].astype("<f4").tobytes() if valid[i] else None for i in there]
        table = pa.table([[f"{i:06d}" for i in there], cells, [None if c else "bad" for c in cells]], schema=form)
        artifact.publish_rows(str(folder), number, form, [table.slice(i, 700) for i in range(0, len(table), 700)])
    notes = {"bad": int((~valid).sum()), "weights": "random:0", "random_weights": True}
    artifact.finish(str(folder), range(len(starts)), notes)
    return str(folder)


def naive(x: np.ndarray, valid: np.ndarray, k: int, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Float64 differences of all pairs; ties by position, the anchor and rows without a vector left out."""
    wide = x.astype(np.float64)
    columns, distances = np.full((len(x), k), -1), np.full((len(x), k), np.nan)
    for i in np.flatnonzero(valid):
        all_ = ((wide - wide[i]) ** 2).sum(axis=1)
        others = np.flatnonzero(valid & (np.arange(len(x)) != i))
        best = others[np.lexsort((others, sign * all_[others]))[:k]]
        columns[i], distances[i] = best, all_[best]
    return columns, distances


def same(found: Lists, name: str, wanted: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_allclose(found[f"{name}_distance"], wanted[1], rtol=1e-12, atol=0)
    np.testing.assert_array_equal(found[name], wanted[0])


def spread(count: int, seed: int = 0) -> np.ndarray:
    """Clusters around a mean that dwarfs them, a steep spectrum, heavy-tailed lengths."""
    generator = np.random.default_rng(seed)
    scale = np.arange(1, DIMENSION + 1) ** -0.8
    x = np.repeat(generator.normal(size=(-(-count // 10), DIMENSION)), 10, axis=0)[:count]
    x = (x + 0.3 * generator.normal(size=x.shape)) * scale * generator.lognormal(0, 0.5, (count, 1))
    return (x + 7).astype(np.float32)


def on_a_sphere(count: int) -> np.ndarray:
    x = np.random.default_rng(1).normal(size=(count, DIMENSION))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def with_copies(count: int) -> np.ndarray:
    """A third are copies of one far row, another of a near one."""
    x = spread(count)
    x[::3], x[1::3] = 30, x[1]
    return x


def one_outlier(count: int) -> np.ndarray:
    x = spread(count)
    x[count // 2] *= 100
    return x


def find(source: str, output: Path, **changes: Any) -> Lists:
    """The job, by index with all lists probed, without Ray where the fixture says so."""
    options = Index(**{"index": "IVF8,Flat", "probes": 8, "workers": 1, **changes})
    card = Search(source, str(output), options).run()
    return read_lists(str(output), card["parts"], options.near, options.far)[1]


def published(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file() and p.name != "timings.jsonl"}


@pytest.mark.parametrize(
    ("make", "count", "near", "far"),
    [
        (spread, 2300, 5, 13),
        (with_copies, 1600, 5, 13),
        (lambda n: np.full((n, DIMENSION), 3, np.float32), 1500, 2, 3),
        (one_outlier, 1300, 5, 13),
        (on_a_sphere, 1300, 5, 13),
        (spread, 15, 5, 14),
    ],
    ids=["clusters", "copies", "all equal", "one outlier", "sphere", "barely enough"],
)
def test_lists_are_the_double_loops(
    tmp_path: Path,
    no_ray: None,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[int], np.ndarray],
    count: int,
    near: int,
    far: int,
) -> None:
    monkeypatch.setattr(scanning, "ROWS", 100)
    monkeypatch.setattr(shell, "CHUNK", 512)
    x, valid = make(count), np.ones(count, bool)
    if count > 100:
        valid[[0, 77, count - 1]] = False
    found = find(store(tmp_path / "d", x, valid), tmp_path / "n", near=near, far=far, candidates=600)
    same(found, "far", naive(x, valid, far, -1))
    same(found, "near", naive(x, valid, near, 1))
    notes = artifact.load_card(str(tmp_path / "n"))["notes"]
    assert notes["far_certified_share"] == 1 and notes[f"recall_near{near}"] == notes[f"recall_far{far}"] == 1
    assert notes["recall_queries"] == min(1000, valid.sum()) and notes["without_descriptor"] == (~valid).sum()


def test_the_shell_is_left_early_where_lengths_differ_and_scanned_whole_on_a_sphere(
    tmp_path: Path, no_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "ROWS", 50)
    for name, x in (("spread", spread(1500)), ("sphere", on_a_sphere(1500))):
        find(store(tmp_path / name, x), tmp_path / f"{name}-n")
    shares = [artifact.load_card(str(tmp_path / f"{n}-n"))["notes"] for n in ("spread", "sphere")]
    assert shares[0]["far_scanned_share"] < 0.5 and shares[1]["far_scanned_share"] == 1


def test_the_cheap_bound_is_one_for_any_directions() -> None:
    generator = np.random.default_rng(0)
    x = spread(400)
    middle = (x.mean(axis=0) + 0.1 * generator.normal(size=DIMENSION)).astype(np.float32)
    squares = scanning.squares(x, middle)
    exact = ((x[:, None].astype(np.float64) - x) ** 2).sum(axis=2)
    anything = np.linalg.qr(generator.normal(size=(DIMENSION, 5)))[0]
    for basis in (anything, shell.directions(x, middle)):
        within = shell.Shell(None, np.zeros(0), middle, basis, "", 3)  # type: ignore[arg-type]
        left, right = (within.columns(x, squares, sign).astype(np.float64) for sign in (-1, 1))
        sums = squares[:, None] + squares
        bound = sums - 2 * left @ right.T + 21 * 2.0**-24 * sums
        assert (bound >= exact).all()
    assert np.median(bound[exact > 9] / exact[exact > 9]) < 1.1  # along principal directions it is not idle


def test_best_keeps_the_best_of_pairs_taken_in_any_order() -> None:
    generator = np.random.default_rng(0)
    rows, columns = (v.ravel() for v in np.mgrid[:7, :40])
    distances = generator.integers(0, 9, len(rows)).astype(float)
    for sign in (1, -1):
        order = generator.permutation(len(rows))
        best = Best(7, 6, sign)
        for some in np.array_split(order, 5):
            best.take(rows[some], columns[some], distances[some])
        table = distances.reshape(7, 40)
        wanted = np.stack([np.lexsort((np.arange(40), sign * row))[:6] for row in table])
        np.testing.assert_array_equal(best.columns, wanted)
        np.testing.assert_array_equal(best.distances, np.take_along_axis(table, wanted, 1))


def test_a_scan_leaves_out_the_queries_themselves() -> None:
    x = spread(30)
    queries = Queries(x[[20, 3]], np.array([20, 3]), x.mean(axis=0), np.zeros(len(x)))
    best = Best(2, 29, 1)
    order = np.random.default_rng(0).permutation(30)
    scanning.scan(best, queries, np.arange(2), Rows(x[order], order, queries.centre, np.zeros(len(x))))
    wanted, _ = naive(x, np.ones(30, bool), 29, 1)
    np.testing.assert_array_equal(best.columns, wanted[[20, 3]])


def test_only_what_is_proved_is_certified(tmp_path: Path) -> None:
    x = spread(1300)
    vectors = Vectors(store(tmp_path / "d", x))
    middle = centre(vectors)
    within = shell.Shell(
        vectors, scanning.squares(x, middle), middle, shell.directions(x, middle), str(tmp_path / "s"), 4
    )
    queries = Queries(x[:50], np.arange(50), middle, np.zeros(len(x)))
    best, scanned, _ = within.furthest(queries)
    assert within.certified(queries, best, scanned).all()
    best.distances[3] *= 1e-3  # not the furthest
    best.columns[5, -1] = -1  # too short
    early = scanned.copy()
    early[7] = 0  # left before anything was scanned
    assert np.flatnonzero(~within.certified(queries, best, early)).tolist() == [3, 5, 7]


def test_what_a_row_has_to_itself_counts_in_every_bound(tmp_path: Path) -> None:
    """The same as with one coordinate more for each row, some of them larger than all others."""
    x, private = spread(1300), np.random.default_rng(2).lognormal(0, 2, 1300) ** 2
    vectors = Vectors(store(tmp_path / "d", x))
    vectors.private = private  # type: ignore[misc]
    middle, valid = centre(vectors), np.ones(1300, bool)
    wide = np.hstack([x, np.diag(np.sqrt(private))])
    for sign in (1, -1):
        best = scanning.exhaustive(vectors, np.arange(1300), 5, sign, middle)
        np.testing.assert_array_equal(best.columns, naive(wide, valid, 5, sign)[0])
    radii = scanning.squares(x, middle) + private
    basis = shell.directions(x, middle)
    within = shell.Shell(vectors, radii, middle, basis, str(tmp_path / "s"), 5)
    queries = Queries(x, np.arange(1300), middle, private)
    best, scanned, _ = within.furthest(queries)
    np.testing.assert_array_equal(best.columns, naive(wide, valid, 5, -1)[0])
    assert within.certified(queries, best, scanned).all()


def test_recall_on_the_card_is_what_counting_gives(tmp_path: Path, no_ray: None) -> None:
    x = spread(2500)
    valid = np.arange(2500) % 50 != 3
    found = find(store(tmp_path / "d", x, valid), tmp_path / "n", index="IVF64,SQ4", probes=1, candidates=6)
    notes = artifact.load_card(str(tmp_path / "n"))["notes"]
    rows = recall.sample(valid, 1000, index.SEED)
    wanted, _ = naive(x, valid, 5, 1)
    hits = [len(set(found["near"][i]) & set(wanted[i])) for i in rows]
    assert notes["recall_near5"] == pytest.approx(sum(hits) / 5000) and 0.2 < notes["recall_near5"] < 0.99
    low, high = notes["recall_near5_interval"]
    p, n, z = notes["recall_near5"], 1000, 1.96
    for bound in (low, high):  # Wilson: |p - bound| = z sqrt(bound (1 - bound) / n)
        assert abs(p - bound) == pytest.approx(z * (bound * (1 - bound) / n) ** 0.5, rel=1e-3)
    assert notes["recall_far13"] == 1 and notes["method"] == "index"
    assert notes["bytes_per_image"] > DIMENSION / 2 + 8


@pytest.mark.parametrize("description", ["Flat", "HNSW16", "IVF8,PQ5x4", "PCAR8,IVF8,SQ8", "IVF8,PQ10x4fs,RFlat"])
def test_other_indexes(tmp_path: Path, no_ray: None, description: str) -> None:
    x = spread(1200)
    valid = np.arange(1200) % 100 != 5
    found = find(store(tmp_path / "d", x, valid), tmp_path / "n", index=description)
    same(found, "far", naive(x, valid, 13, -1))
    assert artifact.load_card(str(tmp_path / "n"))["notes"]["recall_near5"] > 0.9


def test_larger_descriptors_decide_among_the_candidates(tmp_path: Path, no_ray: None) -> None:
    x = spread(1100)
    short = store(tmp_path / "short", x[:, :6])
    found = find(short, tmp_path / "n", rerank=store(tmp_path / "d", x), candidates=1099)
    same(found, "near", naive(x, np.ones(1100, bool), 5, 1))
    same(found, "far", naive(x[:, :6], np.ones(1100, bool), 13, -1))
    with pytest.raises(ValueError, match=r"--rerank .*other: descriptors of another"):
        find(short, tmp_path / "m", rerank=store(tmp_path / "other", x[:900]))
    with pytest.raises(ValueError, match=r"--rerank .*lacking has no descriptor of row 1050, --descriptors has one"):
        find(short, tmp_path / "l", rerank=store(tmp_path / "lacking", x, np.arange(1100) != 1050))


def test_rows_that_the_index_finds_too_few_for_look_at_all(tmp_path: Path, no_ray: None) -> None:
    x = spread(1100)
    x[600] += 1000  # an inverted list of its own
    found = find(store(tmp_path / "d", x), tmp_path / "n", probes=1)
    wanted = naive(x, np.ones(1100, bool), 5, 1)
    np.testing.assert_array_equal(found["near"][600], wanted[0][600])


def test_the_same_bytes_for_any_workers_blocks_and_kills(
    tmp_path: Path, ray_cluster: None, inline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "PIECE_ROWS", 1500)
    source = store(tmp_path / "d", spread(5000))
    two = {"index": "IVF32,Flat", "probes": 4}

    def killing(*arguments: Any, **options: Any) -> Iterator[tuple[int, Any]]:
        for number, result in each(*arguments, **options):
            if result["what"] == "lists" and not killed:
                killed.append(result["pid"])
                os.kill(result["pid"], signal.SIGKILL)
            yield number, result

    each, killed = pool.each, []  # type: ignore[var-annotated]
    monkeypatch.setattr(pool, "each", killing)
    find(source, tmp_path / "2", workers=2, block=1024, **two)
    assert killed
    monkeypatch.setattr(pool, "each", inline)
    find(source, tmp_path / "1", block=3072, **two)
    assert published(tmp_path / "1") == published(tmp_path / "2") and len(published(tmp_path / "1")) == 11
    assert not list((tmp_path / "1").glob("tiles-*"))


def test_stopped_anywhere_it_goes_on_and_trains_once(
    tmp_path: Path, inline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "PIECE_ROWS", 1500)
    source = store(tmp_path / "d", spread(3000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "each", inline)
        find(source, tmp_path / "calm", block=1024)

    class Stop(Exception):
        pass

    done: list[Any] = []
    stop = [1]

    def failing(make: Any, arguments: Any, items: Any, *_: Any, **__: Any) -> Iterator[tuple[int, Any]]:
        for number, result in inline(make, arguments, items):
            done.append(items[number])
            yield number, result
            if len(done) >= stop[0]:
                raise Stop

    monkeypatch.setattr(pool, "each", failing)
    while True:
        try:
            find(source, tmp_path / "n", block=1024)
            break
        except Stop:
            stop[0] = len(done) + 1
    assert len(done) == len(set(done)) == 10 and done.count(("train", 0)) == 1
    assert published(tmp_path / "n") == published(tmp_path / "calm")
    # A damaged part is taken out: it is made again, and the card is the same.
    for name in ("card.json", "00001.json", "00001.parquet"):
        (tmp_path / "n" / name).unlink()
    stop[0] = 1000
    find(source, tmp_path / "n", block=1024)
    assert published(tmp_path / "n") == published(tmp_path / "calm")


@pytest.mark.parametrize("cap", [0.0, 0.5])
def test_an_index_that_cannot_be_trained_leaves_the_folder_to_another(tmp_path: Path, no_ray: None, cap: float) -> None:
    source = store(tmp_path / "d", spread(120))
    options = Index(index="PQ4", far_cap=cap, workers=1)
    with pytest.raises(ValueError, match="--index PQ4: FAISS cannot train it on 120 vectors"):
        Search(source, str(tmp_path / "n"), options).run()
    assert Search(source, str(tmp_path / "n"), replace(options, index="Flat")).run()["rows"] == 120


def test_a_unit_file_that_is_lost_is_made_again(tmp_path: Path) -> None:
    source = store(tmp_path / "d", spread(2100))
    vectors = Vectors(source)
    options = Index(index="IVF8,Flat", block=1024, recall_sample=50)
    plan = options.plan(vectors, str(tmp_path / "n"), artifact.load_card(source))
    items = plan.items([0, 1, 2])

    def bytes_of_all() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in Path(plan.scratch).iterdir()}

    for item in items:
        units.unit_worker(plan, centre(vectors))(item)
    wanted = bytes_of_all()
    for item in items:
        storage.remove(storage.join(plan.scratch, plan.name(item)))
        assert plan.items([0, 1, 2]) == [item]
        units.unit_worker(plan, centre(vectors))(item)
        assert bytes_of_all() == wanted


def test_what_is_damaged_between_a_kill_and_the_resume_is_made_again(tmp_path: Path) -> None:
    """Each of the files that have no checksum of their own: cut short, or a bit in them flipped."""
    source = store(tmp_path / "d", spread(2100))
    vectors = Vectors(source)
    options = Index(index="IVF8,Flat", block=1024, recall_sample=50)
    plan = options.plan(vectors, str(tmp_path / "n"), artifact.load_card(source))

    def bytes_of_all() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in Path(plan.scratch).iterdir()}

    def resume(*lists: int) -> None:
        for block in lists:
            storage.remove(plan.path(("lists", block)))
        worker = units.unit_worker(plan, centre(vectors))
        for item in plan.items([0, 1, 2]):
            worker(item)

    resume()
    wanted = bytes_of_all()
    raw = [name for name in wanted if not name.endswith((".npz", ".sha256"))]
    assert sorted(raw) == [
        "merge-00000.index",
        "merge.ivfdata",
        "piece-00000.index",
        "shell-00000-ranks.npy",
        "shell-00000-vectors.npy",
    ]
    for name in raw:
        path = Path(plan.scratch, name)
        for damaged in (wanted[name][:-9], wanted[name][:-9] + bytes([wanted[name][-9] ^ 64]) + wanted[name][-8:]):
            path.write_bytes(damaged)
            resume(0, 1, 2)  # the lists are what it would spoil
            assert bytes_of_all() == wanted, name


def test_what_cannot_be_is_said(tmp_path: Path, no_ray: None) -> None:
    source = store(tmp_path / "d", spread(300))
    with pytest.raises(ValueError, match="--index Foo7: FAISS makes no such index of vectors of 20 numbers"):
        find(source, tmp_path / "n", index="Foo7")
    with pytest.raises(ValueError, match="--index IVF512,Flat: 512 inverted lists for 300 vectors"):
        find(source, tmp_path / "n", index="IVF512,Flat")
    for none in ("IVF0,Flat", "HNSW0", "IDMap,Flat"):  # FAISS fails of these without a name, or ends the process
        with pytest.raises(ValueError, match=f"--index {none}: no lists or links, or an IDMap"):
            index.check(none, 20, 100)
    with pytest.raises(ValueError, match="--index PQ7: FAISS makes no such index"):
        find(source, tmp_path / "n", index="PQ7")
    with pytest.raises(ValueError, match=r"--output s3://x/y: .*maps its files"):
        Search(source, "s3://x/y", Index())
    with pytest.raises(ValueError, match="--candidates 3: give at least --near 5"):
        Index(candidates=3)
    with pytest.raises(ValueError, match="--block 1000: give a multiple of 1024"):
        Index(block=1000)
    assert not (tmp_path / "n").exists()


def test_lists_from_arrays_are_arrows_lists() -> None:
    rows, valid = np.arange(12, dtype=np.int32).reshape(4, 3), np.array([False, True, True, False])
    wanted = pa.array([row if good else None for row, good in zip(rows.tolist(), valid, strict=True)], SCHEMA[1].type)
    assert _lists(rows, valid, SCHEMA[1].type).equals(wanted)
    assert len(_lists(rows[:0], valid[:0], SCHEMA[1].type)) == 0


def test_the_default_index_grows_with_the_number_of_rows() -> None:
    assert index.automatic(500)[0] == "Flat"
    assert [index.automatic(n)[0] for n in (100_000, 1_000_000)] == ["IVF1024,Flat", "IVF4096,Flat"]
    wanted = ((0, 70_000), (70_000, 140_010), (140_010, 140_015))
    assert units.pieces([40_000, 0, 30_000, 10, 70_000, 5], 65_536) == wanted
    assert faiss.index_factory(8, index.automatic(300_000)[0]).nlist == 2048


def test_directions_are_the_principal_ones() -> None:
    x = spread(300)
    centre_of = x.mean(0)
    found = shell.directions(x, centre_of)
    np.testing.assert_allclose(found.T @ found, np.eye(found.shape[1]), atol=1e-12)
    centred = x.astype(np.float64) - centre_of
    kept, most = ((centred @ found) ** 2).sum(0), np.linalg.eigvalsh(centred.T @ centred)[::-1]
    np.testing.assert_allclose(kept, most[: shell.DIRECTIONS], rtol=1e-6)
    wide = np.random.default_rng(0).standard_normal((50, 20_000)).astype(np.float32)  # no matrix of that size squared
    found = shell.directions(wide, wide.mean(0))
    np.testing.assert_allclose(found.T @ found, np.eye(shell.DIRECTIONS), atol=1e-12)
    equal = shell.directions(np.ones((9, 5), np.float32), np.ones(5, np.float32))
    np.testing.assert_allclose(equal.T @ equal, np.eye(5), atol=1e-12)
