"""Balanced furthest lists against the linear program's optimum; the cap is kept whatever the vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from jobs import neighbours
from jobs.study.balance import greedy
from pipeline.artifacts import artifact, storage
from pipeline.neighbours.lists import hubs, load
from pipeline.search import balance
from pipeline.search.auction import EPSILON
from pipeline.search.balance import balanced, limit_of
from pipeline.search.rows import InMemory
from tests.pipeline.neighbours.test_exact import Made, part_bytes

Array = np.ndarray


def with_hubs(n: int, seed: int = 0, dimension: int = 12) -> Array:
    """A few rows are far from all others, in several directions."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, dimension)) / np.arange(1, dimension + 1) ** 0.5
    return (x * np.exp(0.5 * generator.normal(size=(n, 1))) + 3).astype(np.float32)


def squares(x: Array) -> Array:
    wide = x.astype(np.float64)
    return np.array([((wide - row) ** 2).sum(axis=1) for row in wide])


def optimum(distance: Array, k: int, limit: int) -> float:
    """Of the linear program over all pairs; its corners are whole numbers."""
    n = len(distance)
    rows, columns = np.kron(np.eye(n), np.ones(n)), np.kron(np.ones(n), np.eye(n))
    upper = (1 - np.eye(n)).ravel()
    cost = -distance.ravel()
    found = linprog(cost, columns, np.full(n, limit), rows, np.full(n, k), np.c_[0 * upper, upper], method="highs")
    assert found.status == 0
    return -float(found.fun)


def raw(apart: Array, k: int) -> Array:
    order = np.argsort(-np.where(np.eye(len(apart), dtype=bool), -np.inf, apart), axis=1, kind="stable")
    return order[:, :k]


def check(x: Array, far: Array, distance: Array, k: int, cap: float, valid: Array | None = None) -> None:
    """Whole lists of distinct others, the cap kept, exact distances in order."""
    valid = np.ones(len(x), bool) if valid is None else valid
    rows = np.flatnonzero(valid)
    assert far.shape == distance.shape == (len(x), k)
    assert (far[~valid] == -1).all() and np.isnan(distance[~valid]).all()
    assert np.isin(far[rows], rows).all() and not (far[rows] == rows[:, None]).any()
    assert (np.diff(np.sort(far[rows], axis=1), axis=1) > 0).all()
    assert np.bincount(far[rows].ravel()).max() <= limit_of(len(rows), k, cap)
    wanted = np.take_along_axis(squares(x)[rows], far[rows], 1)
    np.testing.assert_allclose(distance[rows], wanted, rtol=1e-12, atol=0)
    falls = np.diff(distance[rows], axis=1)
    assert (falls <= 0).all() and (np.diff(far[rows], axis=1)[falls == 0] > 0).all()


@pytest.mark.parametrize(("n", "k", "cap"), [(60, 5, 0.5), (60, 5, 0.2), (60, 5, 0.1), (48, 4, 0.09), (40, 3, 0.075)])
def test_total_distance_is_the_optimum_within_epsilon(n: int, k: int, cap: float) -> None:
    # The last caps leave no place spare: every image is in exactly k lists.
    for seed in range(2):
        x = with_hubs(n, seed)
        apart = np.sqrt(squares(x))
        limit = limit_of(n, k, cap)
        far, distance = balanced(InMemory(x), k, cap, block=16)
        check(x, far, distance, k, cap)
        best, total = optimum(apart, k, limit), float(np.sqrt(distance).sum())
        allowed = EPSILON * float(np.take_along_axis(apart, raw(apart, k), 1).sum())
        assert best - allowed <= total <= best * (1 + 1e-9)
        assert np.sqrt(distance).sum() >= greedy(apart, k, limit).sum() * (1 - 1e-9)


def test_the_greedy_cap_misses_that_tolerance() -> None:
    apart = np.sqrt(squares(with_hubs(60)))
    allowed = EPSILON * float(np.take_along_axis(apart, raw(apart, 5), 1).sum())
    assert greedy(apart, 5, 6).sum() < optimum(apart, 5, 6) - 2 * allowed


def test_a_cap_of_1_gives_the_raw_lists() -> None:
    x = with_hubs(90)
    x[7] = x[70] = x[33]
    far, distance = balanced(InMemory(x), 13, 1.0)
    check(x, far, distance, 13, 1.0)
    np.testing.assert_array_equal(far, raw(squares(x), 13))
    assert hubs(far)["far_most_frequent_share"] > 0.9


@pytest.mark.parametrize("cap", [0.1, 1.0])
def test_what_a_row_has_to_itself_counts(cap: float) -> None:
    """The same as with one coordinate more for each row."""
    x, own = with_hubs(80), np.random.default_rng(1).uniform(0, 3, 80)
    held = InMemory(x)
    held.private = own.astype(np.float32).astype(np.float64) ** 2
    far, distance = balanced(held, 6, cap)
    wide_far, wide = balanced(InMemory(np.hstack([x, np.diag(own)]).astype(np.float32)), 6, cap)
    np.testing.assert_array_equal(far, wide_far)
    np.testing.assert_allclose(distance, wide, rtol=1e-9)
    assert (balanced(InMemory(x), 6, cap)[0] != far).any()


@pytest.mark.parametrize("cap", [0.2, 0.5, 1.0])
def test_equal_points_and_one_far_outlier(cap: float) -> None:
    x = np.ones((30, 4), np.float32)
    check(x, *balanced(InMemory(x), 4, cap), 4, cap)
    x[11] = 1000
    far, distance = balanced(InMemory(x), 4, cap)
    check(x, far, distance, 4, cap)
    # Whoever may have the outlier has it: no place for it is left empty.
    assert (far == 11).sum() == min(29, limit_of(30, 4, cap))


@pytest.mark.parametrize("n", [14, 15, 16])
def test_hardly_more_rows_than_a_list_is_long(n: int) -> None:
    x = with_hubs(n)
    far, distance = balanced(InMemory(x), 13, 13 / n + 1e-9)
    check(x, far, distance, 13, 13 / n + 1e-9)
    assert (np.bincount(far.ravel()) == 13).all()


def test_rows_without_a_vector_change_nothing_for_the_others() -> None:
    x = with_hubs(50)
    valid = np.ones(50, bool)
    valid[[0, 17, 49]] = False
    x[17] = 1e6  # what a row without a vector holds is not looked at
    far, distance = balanced(InMemory(x, valid), 5, 0.2, block=8)
    check(x, far, distance, 5, 0.2, valid)
    alone, apart = balanced(InMemory(x[valid]), 5, 0.2)
    np.testing.assert_array_equal(far[valid], np.flatnonzero(valid)[alone])
    np.testing.assert_array_equal(distance[valid], apart)


def sampled(patch: pytest.MonkeyPatch, entries: int, least: int = 40) -> None:
    patch.setattr(balance, "ENTRIES", entries)
    patch.setattr(balance, "LEAST", least)


@pytest.mark.parametrize("entries", [1 << 24, 12_000])
def test_bytes_do_not_depend_on_blocks(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sampled(monkeypatch, entries)
    x = with_hubs(300, dimension=40)
    seen = {tuple(v.tobytes() for v in balanced(InMemory(x), 5, 0.1, block=b)) for b in (1, 7, 64, 1000)}
    assert len(seen) == 1


@pytest.mark.parametrize("cap", [0.5, 0.1, 0.05])
def test_prices_of_a_sample_serve_all_rows(cap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    x = with_hubs(600)
    limit, apart = limit_of(600, 5, cap), np.sqrt(squares(x))
    best = np.sqrt(balanced(InMemory(x), 5, cap)[1]).sum()
    sampled(monkeypatch, 200 * 400)  # about 200 rows
    far, distance = balanced(InMemory(x), 5, cap, block=100)
    check(x, far, distance, 5, cap)
    total = np.sqrt(distance).sum()
    assert 0.985 * best < total < best * (1 + EPSILON)
    assert total > greedy(apart, 5, limit).sum()


def test_a_pool_that_misses_much_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    # Three far clusters, the nearest of them the only ones that are far from the others' side.
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 3)).astype(np.float32)
    x[:100, 0] += 100
    x[100:120, 0] -= 40
    best = np.sqrt(balanced(InMemory(x), 4, 0.2)[1]).sum()
    sizes: list[int] = []
    outside = balance._outside

    def noted(vectors: Any, pool: Any, *rest: Any) -> float:
        sizes.append(len(pool.columns))
        return outside(vectors, pool, *rest)

    monkeypatch.setattr(balance, "_outside", noted)
    monkeypatch.setattr(balance, "LEAST", 1)
    monkeypatch.setattr(balance, "POOL", 1)
    far, distance = balanced(InMemory(x), 4, 0.2)
    check(x, far, distance, 4, 0.2)
    assert len(sizes) > 1 and sizes[0] == 20
    assert np.sqrt(distance).sum() > (1 - balance.TOLERANCE - EPSILON) * best


def test_what_cannot_be_kept() -> None:
    x = InMemory(with_hubs(40))
    with pytest.raises(ValueError, match=r"--far-cap 0.1: 40 images, .* at most 4 lists, .* 40 lists of 5; .* 0.125"):
        balanced(x, 5, 0.1)
    assert limit_of(40, 5, 0.125) == 5 and limit_of(100, 5, 0.29) == 29  # 0.29 x 100 is 28.99... in float64
    with pytest.raises(ValueError, match=r"--far-cap 1\.5: give a share"):
        balanced(x, 5, 1.5)
    with pytest.raises(ValueError, match="--far 40: 40 described images have 39 others each"):
        balanced(x, 40, 1.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, inline: Any) -> Made:
    return Made(tmp_path_factory.mktemp("balance"), 14, inline)


def test_the_job_caps_the_exact_lists(made: Made, tmp_path: Path, inline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.artifacts.pool.each", inline)
    plain = neighbours.run(made.config(tmp_path / "plain"))
    assert neighbours.run(made.config(tmp_path / "plain", far_cap=1.0)) == plain  # the paper's: no other request
    assert "far_cap" not in plain["options"] and "far_mean_distance_kept" not in plain["notes"]
    card = neighbours.run(made.config(tmp_path / "capped", far_cap=0.5))
    assert card["options"] == {"near": 3, "far": 4, "far_cap": 0.5}
    notes = card["notes"]
    assert notes["far_most_frequent_share"] <= 0.5 < plain["notes"]["far_most_frequent_share"]
    found, before = load(str(tmp_path / "capped")), load(str(tmp_path / "plain"))
    np.testing.assert_array_equal(found.near, before.near)
    kept = np.sqrt(found.far_distance).mean() / np.sqrt(before.far_distance).mean()
    assert 0.5 < notes["far_mean_distance_kept"] < 1 and notes["far_mean_distance_kept"] == pytest.approx(kept)
    assert not (tmp_path / "capped" / "raw").exists()
    # Stopped while the capped parts were written: the exact lists stay, and the same command ends the work.
    publish = artifact.publish_part

    def stop(folder: str, number: int, table: Any) -> None:
        if number == 1 and not folder.endswith("raw"):
            raise KeyboardInterrupt
        publish(folder, number, table)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(artifact, "publish_part", stop)
        neighbours.run(made.config(tmp_path / "again", far_cap=0.5))
    exact = storage.join(str(tmp_path / "again"), "raw", "card.json")
    assert storage.exists(exact)
    assert neighbours.run(made.config(tmp_path / "again", far_cap=0.5, block=5)) == card
    assert part_bytes(tmp_path / "again") == part_bytes(tmp_path / "capped")
    with pytest.raises(ValueError, match=r"far_cap is 0\.5 there, 'absent' wanted"):
        neighbours.run(made.config(tmp_path / "capped"))
    with pytest.raises(ValueError, match=r"--far-cap 0\.1: 14 images, each in at most 1 lists"):
        neighbours.run(made.config(tmp_path / "none", far_cap=0.1))
    assert not (tmp_path / "none").exists()
