"""Recall of neighbour lists against exact search of the same vectors, on a seeded sample of queries."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.search.bounds import Array

Z = 1.959963984540054
"""Of a 95 % interval."""


def sample(valid: Array, count: int, seed: int) -> Array:
    """int64, ascending: `count` of the rows that are valid (bool N), or all of them."""
    rows = np.flatnonzero(valid)
    if len(rows) <= count:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))


def recall(found: Array, wanted: Array, sign: int) -> Array:
    """float64 n: share of each query's k found (float64 n k squared distances, exact) that belong to its true list
    (likewise, best first). One as close as the k-th true one belongs to it, whichever of equals was listed. sign: 1
    near, -1 far."""
    share: Array = (sign * found <= sign * wanted[:, -1:]).mean(axis=1)
    return share


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a mean of `count` values within [0, 1] (Wilson, "Probable inference", JASA 22, 1927).

    `count` is of queries, not of list entries: entries of one query are not independent, and no mean of them varies
    more than one all-or-nothing draw, so that the interval is on the safe side. Unlike a bootstrap's it does not shrink
    to a point where every query was right.
    """
    z2 = Z * Z / count
    middle, half = share + z2 / 2, Z * np.sqrt(share * (1 - share) / count + z2 / (4 * count))
    return float(max(0.0, (middle - half) / (1 + z2))), float(min(1.0, (middle + half) / (1 + z2)))


def notes(name: str, shares: Array) -> dict[str, Any]:
    """For a card: the mean recall and its interval."""
    mean = float(shares.mean())
    return {name: mean, f"{name}_interval": list(wilson(mean, len(shares)))}
