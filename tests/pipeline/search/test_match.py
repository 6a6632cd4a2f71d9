"""IMLE's matching against a plain double loop in float64: nearest rows, rejection, groups, ties, what float32 hides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pipeline.search.match as matching
from pipeline.search import bounds
from pipeline.search.match import Bounds, match
from pipeline.training import trainer


def naive(queries: Tensor, pool: Tensor, epsilon: float = 0.0) -> dict[str, Any]:
    """Double loop in float64; ties to the lower row."""
    x, y = queries.double().numpy(), pool.double().numpy()
    apart = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in y] for a in x])
    rejected = [j for j in range(len(y)) if any(apart[i, j] < epsilon for i in range(len(x)))]
    allowed = [j for j in range(len(y)) if j not in set(rejected)]
    if not allowed:
        allowed = [max(range(len(y)), key=lambda j: (min(apart[:, j]), -j))]
    index = [min(allowed, key=lambda j: (apart[i, j], j)) for i in range(len(x))]
    return {
        "index": index,
        "distance": [apart[i, j] for i, j in enumerate(index)],
        "rejected": len(rejected),
        "forced": len(x) if len(rejected) == len(y) else 0,
    }


def same(found: matching.Matched, wanted: dict[str, Any]) -> None:
    assert found.index.dtype == torch.int64 and found.index.tolist() == wanted["index"]
    assert found.distance.dtype == torch.float64
    np.testing.assert_allclose(found.distance.numpy(), wanted["distance"], rtol=1e-12, atol=0)
    assert (found.rejected, found.forced) == (wanted["rejected"], wanted["forced"])


def vectors(queries: int, pool: int, dimension: int, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(dimension)
    x, y = (torch.randn(n, dimension, generator=generator, dtype=torch.float64) for n in (queries, pool))
    return x + offset, y + offset


def quantiles(x: Tensor, y: Tensor) -> list[float]:
    """Epsilons that reject none, a third, all but a few and all of y; they are distances that occur."""
    closest = torch.from_numpy(np.sqrt(((x.numpy()[:, None] - y.numpy()[None]) ** 2).sum(-1)).min(axis=0))
    middle = closest.sort().values[[len(y) // 3, -2]].tolist()
    return [0.0, *middle, float(closest.max()) * 1.5]


@pytest.mark.parametrize(
    ("pool", "dimension", "offset", "kind"),
    [
        (60, 1, 0.0, torch.float32),
        (2100, 3, 5.0, torch.float32),  # several blocks
        (60, 8, 1000.0, torch.float32),  # the mean dwarfs the differences
        (60, 700, 1e6, torch.float64),
        (20, 5000, 1.0, torch.float32),  # more than one chunk and piece
        (60, 4, 10.0, torch.float16),
    ],
)
def test_equals_the_double_loop(pool: int, dimension: int, offset: float, kind: torch.dtype) -> None:
    x, y = (v.to(kind) for v in vectors(30, pool, dimension, offset))
    y[15], y[17], x[0] = y[3], y[3], y[3]
    for epsilon in quantiles(x.double(), y.double()):
        same(match(x, y, epsilon), naive(x, y, epsilon))


def test_closed_form() -> None:
    # Pool k = (k, 0); queries 3-4-5 triangles away from 0 and from 10, and on 20.
    pool = torch.stack([torch.arange(31.0), torch.zeros(31)], dim=1)
    queries = torch.tensor([[0.0, 4.0], [10.0, -4.0], [20.0, 0.0]])
    found = match(queries, pool)
    assert found.index.tolist() == [0, 10, 20] and found.distance.tolist() == [4, 4, 0]
    assert (found.rejected, found.forced) == (0, 0)
    # Closer than 5: |k| < 3, |k - 10| < 3, |k - 20| < 5: 3 + 5 + 9. Rows at exactly 5 may be chosen.
    found = match(queries, pool, 5.0)
    assert found.index.tolist() == [3, 7, 15] and found.distance.tolist() == [5, 5, 5]
    assert (found.rejected, found.forced) == (17, 0)
    # Everything is closer than 50: row 30 is furthest from its nearest query (10 from the last).
    found = match(queries, pool, 50.0)
    assert found.index.tolist() == [30] * 3 and found.distance.tolist() == [916**0.5, 416**0.5, 10]
    assert (found.rejected, found.forced) == (31, 3)


def test_epsilon_at_a_distance_is_decided_by_the_last_bit() -> None:
    x, y = vectors(20, 300, 300)
    apart = naive(x, y)["distance"]
    nearest = match(x, y).index
    for i in range(3):
        for epsilon, rejected in ((apart[i], False), (np.nextafter(apart[i], np.inf), True)):
            found = match(x[i : i + 1], y, float(epsilon))
            assert (found.rejected == 1) == rejected and (found.index[0] != nearest[i]) == rejected
    assert match(y[:1], y, 1e-200).rejected == 1 and match(y[:1], y, 1e200).forced == 1


@pytest.mark.parametrize("spread", [1e-7, 1e-9])
def test_near_ties_that_float32_cannot_tell_apart(spread: float) -> None:
    # Clusters far from each other: centring does not help, and the kept rows prove nothing.
    x, noise = vectors(20, 200, 50)
    pool = 1000 + vectors(1, 2, 50)[1].repeat(100, 1) + spread * noise
    x += 1000
    wanted = naive(x, pool)
    single = (x.float() - 1000)[:, None] - (pool.float() - 1000)[None]
    assert single.square().sum(-1).argmin(dim=1).tolist() != wanted["index"]
    for epsilon in quantiles(x, pool):
        same(match(x, pool, epsilon), naive(x, pool, epsilon))


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e15])
def test_any_scale(scale: float) -> None:
    x, y = vectors(20, 40, 6)
    for epsilon in quantiles(x * scale, y * scale):
        same(match(x * scale, y * scale, epsilon), naive(x * scale, y * scale, epsilon))


def test_queries_far_from_the_pool_and_outliers() -> None:
    x, y = vectors(20, 60, 30)
    for queries, pool in ((x + 1e5, y), (torch.cat([x, 1e6 + x[:1]]), y), (x, torch.cat([y, 1e6 + y[:1]]))):
        for epsilon in quantiles(queries, pool):
            same(match(queries, pool, epsilon), naive(queries, pool, epsilon))


def test_twins_in_other_blocks() -> None:
    # The wrong one of two has the lower float32 bound about every second time; the other is many rows away.
    x, y = vectors(20, 1100, 40)
    pool = torch.cat([y, y + 1e-6 * vectors(1, 1100, 41)[1][:, :40]])
    wanted = naive(x, pool)
    assert 0 < sum(i < 1100 for i in wanted["index"]) < 20
    same(match(x, pool), wanted)
    for i in range(20):  # all rejected: the further one of two
        few = torch.cat([3 * pool[[i, 1100 + i]], x[:3]])
        same(match(x, few, 100.0), naive(x, few, 100.0))


def test_ties_between_rows_that_differ() -> None:
    signs = vectors(1, 1500, 12)[1].sign()
    pool = torch.cat([torch.zeros(1500, 1), signs], dim=1)
    queries = torch.zeros(9, 13)
    queries[:, 0] = torch.arange(9.0)
    same(match(queries, pool), naive(queries, pool))
    same(match(queries, pool, 12**0.5), naive(queries, pool, 12**0.5))  # the first query is that far from every row


@pytest.mark.parametrize("epsilon", [0.0, 3.0, 100.0])
def test_identical_rows_go_to_the_lower_with_little_work(epsilon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = (v.float() for v in vectors(400, 4000, 64))
    pairs = 0
    plain = bounds.distances

    def counted(x: np.ndarray, y: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        nonlocal pairs
        pairs += len(rows)
        return plain(x, y, rows, columns)

    monkeypatch.setattr(bounds, "distances", counted)
    close = y[:10].double().repeat(400, 1) + 1e-8 * y.double()
    for same_queries, distinct, times in (
        (False, y, 1),
        (False, y[:1], 4000),
        (True, y, 1),
        (True, x[:1], 4000),
        (False, y[:20], 200),
        (False, close, 1),
    ):
        queries, pool = x[:1].expand(400, -1) if same_queries else x, distinct.repeat(times, 1)
        pairs = 0
        found = match(queries, pool, epsilon)
        assert pairs <= 3 * (400 + 4000)  # of 1.6 million
        wanted = match(x[:1] if same_queries else x, distinct, epsilon)
        assert found.index.tolist() == (wanted.index.tolist() * 400)[:400]
        assert found.rejected == times * wanted.rejected
        assert (found.forced > 0) == (wanted.forced > 0) == (found.rejected == 4000)


def test_groups_are_problems_of_their_own() -> None:
    x, y = vectors(40, 90, 5)
    generator = torch.Generator().manual_seed(0)
    mine, theirs = torch.randint(0, 4, (40,), generator=generator) * 10 - 7, torch.arange(90) % 5 * 10 - 7
    mine[0] = -7  # 33 has no query
    theirs[theirs == 13] = 23
    theirs[7] = 13  # a group with one row
    y[7] = x[mine == 13][0]
    y[25] = y[5] = x[mine == -7][0]  # a tie within a group
    for epsilon in (0.0, 0.5, 1.2):
        found = match(x, y, epsilon, mine, theirs)
        rejected = forced = 0
        for group in mine.unique():
            rows = torch.where(theirs == group)[0]
            wanted = naive(x[mine == group], y[rows], epsilon)
            assert found.index[mine == group].tolist() == rows[wanted["index"]].tolist()
            np.testing.assert_allclose(found.distance[mine == group], wanted["distance"], rtol=1e-12)
            rejected, forced = rejected + wanted["rejected"], forced + wanted["forced"]
        assert (found.rejected, found.forced) == (rejected, forced)
        assert epsilon == 0 or 0 < forced < 40


def test_bounds_hold_and_are_not_idle() -> None:
    x, y = (v.float().numpy() for v in vectors(30, 40, 900, 3.0))
    exact = ((x.astype(np.float64)[:, None] - y.astype(np.float64)[None]) ** 2).sum(-1)
    for kind, narrow in ((np.float32, 1e-3), (np.float64, 1e-11)):
        bounds = Bounds(x, y.mean(axis=0, dtype=np.float64).astype(kind), kind)
        lower, norms = bounds.lower(y)
        widths = bounds.widths(bounds.norms[:, None], norms)
        over = (exact - lower.double().numpy()) / widths
        assert over.min() > 0 and over.max() < 1 and 0.3 < np.median(over) < 0.7
        assert (widths / exact).max() < narrow


def test_nothing_depends_on_autocast_blocks_or_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = (v.float() for v in vectors(25, 300, 40))
    for epsilon in quantiles(x.double(), y.double()):
        wanted = naive(x, y, epsilon)
        with torch.autocast("cpu", torch.bfloat16):
            same(match(x, y, epsilon), wanted)
        for block, scores, kept in ((7, 1 << 24, 4), (1024, 500, 4), (1024, 1, 1), (1, 1 << 24, 400)):
            monkeypatch.setattr(matching, "BLOCK", block)
            monkeypatch.setattr(matching, "SCORES", scores)
            monkeypatch.setattr(matching, "KEPT", kept)
            same(match(x, y, epsilon), wanted)
        monkeypatch.undo()


def test_no_query_one_row_and_the_families_contract() -> None:
    found = match(torch.zeros(0, 8), torch.ones(3, 8), 1.0)
    assert found.index.tolist() == found.distance.tolist() == [] and found.rejected == found.forced == 0
    assert match(torch.randn(4, 8), torch.ones(1, 8)).index.tolist() == [0] * 4
    x, y = vectors(9, 30, 4)
    assert trainer.nearest(x.requires_grad_(), y).tolist() == naive(x.detach(), y)["index"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pool": torch.zeros(0, 8)}, "want Q D and P D"),
        ({"pool": torch.zeros(3, 7)}, "want Q D and P D"),
        ({"pool": torch.full((3, 8), torch.nan)}, "not finite"),
        ({"pool": torch.tensor([[0.0] * 8, [torch.inf] * 8])}, "not finite"),
        ({"queries": torch.full((2, 8), torch.inf)}, "not finite"),
        ({"queries": torch.full((2, 8), 1e30, dtype=torch.float64)}, "1e\\+18"),
        ({"epsilon": -0.1}, "epsilon -0.1"),
        ({"epsilon": float("nan")}, "epsilon nan"),
        ({"query_groups": torch.zeros(2, dtype=torch.int64)}, "pool_groups of shape None"),
        (
            {"query_groups": torch.zeros(2, dtype=torch.int64), "pool_groups": torch.zeros(2, dtype=torch.int64)},
            "pool_groups of shape \\(2,\\): give one for each of 3 rows",
        ),
        ({"query_groups": torch.tensor([4, 5]), "pool_groups": torch.tensor([3, 4, 9])}, "group 5"),
    ],
)
def test_what_cannot_be_matched(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"match: .*{message}"):
        match(**{"queries": torch.zeros(2, 8), "pool": torch.zeros(3, 8), **change})
