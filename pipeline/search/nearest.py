"""The k rows of a pool that are most similar to each query: FAISS nominates, float64 products decide."""

from __future__ import annotations

import faiss
import numpy as np

from pipeline.search.bounds import Array

QUERIES = 256
"""Queries searched at a time."""
MARGIN = 64
"""Rows nominated beside the k, before all that are as near are asked for."""


def most_similar(queries: Array, pool: Array, k: int) -> tuple[Array, Array]:
    """(positions int64 `Q k`, inner products float64 `Q k`), best first; of equally similar rows the first ones.

    `queries` `Q D` and `pool` `N D` are float32 rows of length at most 1. All rows within float32's error of the k-th
    are nominated: among many equal rows (the same question, asked often) FAISS chooses none.

    Raises:
        ValueError: fewer than k rows, or k below 1.
    """
    if not 1 <= k <= len(pool):
        raise ValueError(f"{k} neighbours among {len(pool)} rows: give 1 to {len(pool)}")
    queries, pool = (np.ascontiguousarray(x, np.float32) for x in (queries, pool))
    index = faiss.IndexFlatIP(pool.shape[1])
    index.add(pool)
    # Both of two float32 products of rows of length 1 are wrong by less than D * 2 ** -23, in any order of the sum.
    slack = pool.shape[1] * 2.0**-22
    places, similarities = np.empty((len(queries), k), np.int64), np.empty((len(queries), k))
    for start in range(0, len(queries), QUERIES):
        some = queries[start : start + QUERIES]
        scores, found = index.search(some, min(k + MARGIN, len(pool)))
        for row, query in enumerate(some):
            reach = float(scores[row, k - 1]) - slack
            near = found[row][scores[row] >= reach]
            if len(near) == found.shape[1]:  # there may be more
                near = index.range_search(query[None], reach)[2]
            near = np.sort(near)
            exact = (pool[near].astype(np.float64) * query).sum(1)  # each row by itself: equal rows stay equal
            best = np.argsort(-exact, kind="stable")[:k]
            places[start + row], similarities[start + row] = near[best], exact[best]
    return places, similarities
