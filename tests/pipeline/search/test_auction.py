"""The auction's prices against the linear program's optimum; rows that are stuck trade."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.search.auction import Lists, auction, bound
from pipeline.search.balance import balanced
from pipeline.search.rows import InMemory
from tests.pipeline.search.test_balance import Array, check, optimum, squares, with_hubs


def test_prices_bound_the_optimum() -> None:
    apart = np.sqrt(squares(with_hubs(40)))
    np.fill_diagonal(apart, -np.inf)
    _, prices = auction(apart, 4, 6)
    best = optimum(np.where(np.isinf(apart), 0, apart), 4, 6)
    assert best <= bound(apart, prices, 4, 6) * (1 + 1e-12) < 1.005 * best
    assert bound(apart, np.zeros(40), 4, 6) > 1.05 * best


def test_a_row_that_finds_only_what_it_has_trades(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without bids, rows take what is left one after the other; with no place spare the last ones are stuck.
    monkeypatch.setattr("pipeline.search.auction.ROUNDS", 0)
    stuck: list[int] = []
    swap = Lists.swap

    def noted(lists: Lists, own: Array) -> None:
        stuck.append(int((lists.count < 5).sum()))
        swap(lists, own)

    monkeypatch.setattr(Lists, "swap", noted)
    for seed in range(5):
        x = with_hubs(16, seed)
        check(x, *balanced(InMemory(x), 5, 5 / 16), 5, 5 / 16)
    assert sum(stuck) > 0
