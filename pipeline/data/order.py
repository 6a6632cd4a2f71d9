"""The global order: which samples make up which batch, as a function of (seed, stage, stream, draw) alone."""

from __future__ import annotations

import collections
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence

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


def rows_for_sheets(
    count: int, labels: Sequence[str | None], blank: Callable[[int], bool], tries: int = 24
) -> list[int]:
    """`count` of the positions 0 ... N - 1, ascending, always the same: for the sheets by which people judge a run.

    Labels take turns, so that a sheet covers as many of them as it has rows. Within a label the order is that of
    `picks`, and blank samples are passed over; a label is left out once `tries` in a row are blank. Blank samples fill
    the rows that are left over.

    Args:
        labels: a sample's label (its photograph, class or folder), `N`; None is a label like the others.
        blank: whether the sample at a position shows next to nothing; it is asked for few of them, one at a time.
    """
    order = permutation(len(labels), "picks").tolist()
    queues: dict[str | None, list[int]] = {}
    for position in order:
        queues.setdefault(labels[position], []).append(position)
    chosen = list(itertools.islice(_in_turn([_shown(queue, blank, tries) for queue in queues.values()]), count))
    seen = set(chosen)
    rest = itertools.islice((p for p in order if p not in seen), count - len(chosen))
    return sorted([*chosen, *rest])


def _shown(queue: list[int], blank: Callable[[int], bool], tries: int) -> Iterator[int]:
    """The positions that are not blank, until `tries` in a row are."""
    missed = 0
    for position in queue:
        if blank(position):
            missed += 1
            if missed == tries:
                return
        else:
            missed = 0
            yield position


def _in_turn(queues: list[Iterator[int]]) -> Iterator[int]:
    """One of each, again and again; those that have ended are left out."""
    waiting = collections.deque(queues)
    while waiting:
        queue = waiting.popleft()
        if (position := next(queue, None)) is not None:
            yield position
            waiting.append(queue)
