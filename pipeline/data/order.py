"""The global order: which samples make up which batch, as a function of (seed, stage, stream, draw) alone."""

from __future__ import annotations

import functools
import hashlib

import numpy as np

from models.family import Stream

Array = np.ndarray


def stream_generator(*words: object) -> np.random.Generator:
    """A generator that depends on the words alone: Philox keyed by their SHA-256."""
    return np.random.Generator(_philox(*words))


def _philox(*words: object) -> np.random.Philox:
    hashed = hashlib.sha256("\x1f".join(map(str, words)).encode()).digest()
    return np.random.Philox(key=int.from_bytes(hashed[:16], "little"))


@functools.lru_cache(maxsize=32)
def permutation(n: int, *words: object) -> Array:
    """A permutation of `n` fixed by the words: the order of Philox's raw output, which no release of NumPy changes
    (the stream of `Generator.permutation` may change)."""
    return np.argsort(_philox(*words).random_raw(n), kind="stable")


def global_batch(stream: Stream, members: Array, draw: int, *words: object) -> Array:
    """Positions of global batch number `draw` of a stream over `members` (positions in key order): int64 `B`.

    `epoch`: position p of the endless stream is the (p mod n)-th of epoch p // n's permutation, so each member comes
    exactly once an epoch and batches run across its end.

    Raises:
        ValueError: no members, or fewer than one batch where the order is `fixed`.
    """
    n, batch = len(members), stream.batch
    if n == 0:
        raise ValueError("the stream is empty: its filter keeps no sample of the data set")
    if stream.order == "weighted":
        chances = stream_generator(*words, "weighted", draw).random(batch)
        if stream.weights is None:
            return np.asarray(members[(chances * n).astype(np.int64)])
        edges = np.cumsum(np.atleast_2d(stream.weights.numpy())[:, members], axis=1, dtype=np.float64)  # C N
        rows = (draw * batch + np.arange(batch)) % len(edges)
        picks = [np.searchsorted(edges[r], c * edges[r, -1], side="right") for r, c in zip(rows, chances, strict=True)]
        return np.asarray(members[picks])
    if stream.order == "fixed":
        whole = n // batch
        if whole == 0:
            raise ValueError(f"batch {batch} is larger than the {n} rows there are")
        start = draw % whole * batch
        return np.asarray(members[permutation(n, *words, "fixed")[start : start + batch]])
    places = draw * batch + np.arange(batch)
    epochs = places // n
    order = {int(e): permutation(n, *words, "epoch", int(e)) for e in np.unique(epochs)}
    return np.array([members[order[int(e)][int(p % n)]] for e, p in zip(epochs, places, strict=True)], dtype=np.int64)


def picks(n: int, count: int) -> list[int]:
    """`count` of `n` positions, ascending, always the same: for sheets and figures. Not evenly spaced, which in a data
    set with a period would show one kind of picture only."""
    return sorted(permutation(n, "picks")[:count].tolist())
