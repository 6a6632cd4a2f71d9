"""Retrieval between two sides of a joint space, several right items a query: ranks by FAISS, recall, median rank."""

from __future__ import annotations

import math
from collections.abc import Sequence

import faiss
import numpy as np

KS = (1, 5, 10)


def ranks(queries: np.ndarray, pool: np.ndarray, query_owner: np.ndarray, pool_owner: np.ndarray) -> np.ndarray:
    """int64 `Q`: the rank (1 is best) of each query's first right item by inner product, exact. An item is right where
    owners are equal (captions of one image); `queries` `Q D` and `pool` `N D` are float32. Wrong items that are as near
    count as nearer: equal vectors find nothing.

    Raises:
        ValueError: a query without any right item.
    """
    index = faiss.IndexFlatIP(pool.shape[1])
    index.add(np.ascontiguousarray(pool, np.float32))
    scores, found = index.search(np.ascontiguousarray(queries, np.float32), len(pool))
    right = pool_owner[found] == query_owner[:, None]
    if not right.any(1).all():
        raise ValueError(f"query {int(np.flatnonzero(~right.any(1))[0])} has no right item in the pool")
    best = np.where(right, scores, -np.inf).max(1)[:, None]
    first: np.ndarray = ((scores >= best) & ~right).sum(1).astype(np.int64) + 1
    return first


def recalls(found: np.ndarray, ks: Sequence[int] = KS) -> dict[str, float]:
    """`recallK`: share of the queries with a right item among the first K; `median_rank`."""
    return {**{f"recall{k}": float((found <= k).mean()) for k in ks}, "median_rank": float(np.median(found))}


def chance(pool: int, right: int, k: int) -> float:
    """Recall at k of a random order of `pool` items of which `right` are right."""
    return 1 - math.comb(pool - right, k) / math.comb(pool, k)
