"""A sketch's short lists and the certified search among many real crops, whose exact vectors no memory holds.

Crops are drawn independently of each other, so that any run of them is a random sample: queries and the rows that a
sketch is fitted on are seeded runs, apart from each other, which are read at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from jobs.bench.style import frontier
from pipeline.artifacts import storage
from pipeline.neighbours import certified, units
from pipeline.search import best, recall, scanning
from pipeline.style import sketches
from pipeline.style.codec import Codec
from pipeline.style.sketches import SketchOptions
from pipeline.style.vectors import Vectors

Array = np.ndarray
NEAR, FAR, SHORT = frontier.NEAR, frontier.FAR, frontier.SHORT


@dataclass(frozen=True)
class Options:
    """Sizes of the measurements among many crops."""

    queries: int = 500
    """Of which the closest are sought, in runs of `block`."""
    block: int = 250
    """Queries of one run; the exact furthest are sought for the first run only."""
    rows: int = 4096
    """Crops that the sketch is fitted on; none is a query."""
    ratios: tuple[int, ...] = (4000, 500)
    """Sizes of sketches: shares of the exact descriptor's bytes."""
    directions: tuple[int, ...] = (256,)
    """Of the certified search's bounds; the first counts, others are reported beside it."""
    opened: int = 4
    """Runs of queries whose open rows are counted; the first run's lists are compared with exact ones."""

    def __post_init__(self) -> None:
        if self.queries < self.block or self.queries % self.block or self.block < 1:
            raise ValueError(f"--many.queries {self.queries}: give a multiple of --many.block ({self.block})")


def split(rows: int, options: Options, seed: int) -> tuple[list[int], tuple[int, int]]:
    """(numbers of the blocks of queries in a seeded order, run of rows that the sketch is fitted on).

    Raises:
        ValueError: too few rows for both.
    """
    generator = np.random.default_rng(seed)
    count = min(options.rows, rows // 2)
    start = int(generator.integers(rows - count + 1))
    full = range(rows // options.block)
    free = [b for b in full if (b + 1) * options.block <= start or b * options.block >= start + count]
    if len(free) < options.queries // options.block:
        raise ValueError(f"--crops {rows}: too few for --many.queries {options.queries}; give more crops")
    return generator.permutation(free).tolist(), (start, start + count)


@dataclass(frozen=True)
class Exact:
    """Exact lists of the queries, and the codes of all crops that the same pass made."""

    own: Array
    """int64 Q: positions of the queries, run after run."""
    near: Array
    """int64 Q 5."""
    far: Array
    """int64 block 13: of the first run."""
    codes: dict[int, Array]
    """Ratio -> uint8 N bytes."""


def exact(vectors: Vectors, options: Options, seed: int, made: dict[int, sketches.Sketch]) -> Exact:
    """One pass over all crops. `made`: sketches by ratio, each the first directions of the widest."""
    blocks = split(len(vectors), options, seed)[0][: options.queries // options.block]
    own = np.concatenate([np.arange(b * options.block, (b + 1) * options.block) for b in blocks])
    x = np.concatenate([vectors.rows(b * options.block, (b + 1) * options.block)[0] for b in blocks])
    centre = x.mean(0)
    queries = scanning.Queries(x, own, centre, vectors.private)
    every, first_run = np.arange(len(own)), np.arange(options.block)
    near, far = best.Best(len(own), NEAR, 1), best.Best(len(own), FAR, -1)
    codes: dict[int, list[Array]] = {ratio: [] for ratio in made}
    widest = max(made.values(), key=lambda sketch: len(sketch.basis)) if made else None
    shown = 0
    for first, y, _ in scanning.blocks(vectors):
        rows = scanning.Rows(y, np.arange(first, first + len(y)), centre, vectors.private)
        scanning.scan(near, queries, every, rows)
        scanning.scan(far, queries, first_run, rows)
        if widest is not None:
            p, norms = widest.coordinates(y)
            for ratio, sketch in made.items():
                codes[ratio].append(sketch.codec.encode(p[:, : len(sketch.basis)], norms))
        if first // 10_000 > shown:
            shown = first // 10_000
            print(f"exact pass: {first} of {len(vectors)} crops", flush=True)
    return Exact(own, near.columns, far.columns[first_run], {r: np.concatenate(c) for r, c in codes.items()})


def fit(vectors: Vectors, options: Options, seed: int) -> dict[int, sketches.Sketch]:
    """Sketches by ratio, from one fit."""
    start, stop = split(len(vectors), options, seed)[1]
    valid = np.zeros(len(vectors), bool)
    valid[start:stop] = True
    sizes = {ratio: 4 * vectors.dimension // ratio for ratio in options.ratios}
    fitted = sketches.principal(vectors, valid, SketchOptions(bytes=max(sizes.values()), rows=options.rows, seed=seed))
    print(f"fitted on crops {start} to {stop}: {fitted.notes}", flush=True)
    return {ratio: fitted.sketch(size) for ratio, size in sizes.items()}


def closest(codec: Codec, codes: Array, own: Array, k: int) -> Array:
    """int64 Q k: the k closest by codes (uint8 N bytes) of the rows at `own`, best first."""
    v, private = codec.decode(codes), codec.private(codes)
    v -= v.mean(0)
    squares = np.einsum("nk,nk->n", v, v, dtype=np.float64) + private
    found = []
    for some in np.array_split(own, -(-len(own) // 100)):
        left = torch.from_numpy(v[some]).double()
        parts = [left @ torch.from_numpy(v[start : start + 8192]).double().T for start in range(0, len(v), 8192)]
        d = squares - 2 * torch.cat(parts, dim=1).numpy()  # a query's own square changes nothing in its order
        d[np.arange(len(some)), some] = np.inf
        short = np.argpartition(d, k - 1, axis=1)[:, :k]
        found.append(np.take_along_axis(short, np.take_along_axis(d, short, 1).argsort(1, kind="stable"), 1))
    return np.concatenate(found)


def reranked(folder: str, options: Options, seed: int) -> dict[str, float]:
    """recall5_reranked_at_RATIO, and recall5_many_at_RATIO without re-ranking.

    Re-ranked by exact distances, a short list yields all of the true 5 that it holds (fewer than 5 rows are closer than
    any of them), so that the share it holds is the recall.
    """
    vectors = Vectors(folder)
    made = fit(vectors, options, seed)
    truth = exact(vectors, options, seed, made)
    units.save_arrays(_saved(folder, options, seed), own=truth.own, near=truth.near, far=truth.far)
    result: dict[str, float] = {"reranked_crops": len(vectors), "reranked_queries": len(truth.own)}
    for ratio, sketch in made.items():
        found = closest(sketch.codec, truth.codes[ratio], truth.own, SHORT)
        held = (truth.near[:, :, None] == found[:, None, :]).any(2).mean(1)
        noted = recall.notes(f"recall5_reranked_at_{ratio}", held)
        result[f"recall5_reranked_at_{ratio}"] = float(held.mean())
        result[f"recall5_reranked_at_{ratio}_lower"] = noted[f"recall5_reranked_at_{ratio}_interval"][0]
        result[f"recall5_many_at_{ratio}"] = frontier.shared(found[:, :NEAR], truth.near)
    return result


def _saved(folder: str, options: Options, seed: int) -> str:
    """Where exact lists are kept, beside the crops' folder."""
    name = f"exact-{Path(folder).name}-{options.queries}-{options.block}-{options.rows}-{seed}.npz"
    return str(Path(folder).absolute().parent / name)


def certified_shares(folder: str, scratch: str, options: Options, seed: int) -> dict[str, float]:
    """Mean share of the other rows that the bounds leave open, over seeded runs of queries among the crops.

    Raises:
        RuntimeError: the lists of the first run are not the exact ones.
    """
    vectors = Vectors(folder)
    saved = _saved(folder, options, seed)
    if not storage.exists(saved):
        truth = exact(vectors, options, seed, {})
        units.save_arrays(saved, own=truth.own, near=truth.near, far=truth.far)
    wanted = units.load_arrays(saved)
    blocks = split(len(vectors), options, seed)[0][: options.opened]
    name = f"{len(vectors) // 1000}k" if len(vectors) >= 1000 else str(len(vectors))
    result: dict[str, float] = {}
    folder_of_units = f"{scratch}/certified-{len(vectors)}"
    for directions in options.directions:
        suffix = "" if directions == options.directions[0] else f"_{directions}"
        worker = certified.Worker(certified.plan(vectors, folder_of_units, NEAR, FAR, options.block, 1, directions))
        for item in worker.plan.items([]):
            print(worker.run(item), flush=True)
        lists = worker.plan.path(("lists", blocks[0]))
        print(worker.run(("lists", blocks[0])), flush=True)
        found = units.load_arrays(lists)
        for side in ("near", "far"):
            if not np.array_equal(found[side], wanted[side][: options.block]):
                raise RuntimeError(f"certified with {directions} directions: the {side} lists are not the exact ones")
        opened = [found["open"], *(_opened(worker, b) for b in blocks[1:])]
        shares = np.concatenate(opened) / (len(vectors) - 1)
        result[f"certified_share_{name}{suffix}"] = float(shares.mean())
        result[f"certified_share_{name}{suffix}_largest"] = float(shares.max())
        print(result, flush=True)
    return result


def _opened(worker: certified.Worker, block: int) -> Array:
    """int64: rows open for each query of a block; its lists are not made."""
    start, stop = worker.plan.blocks[block]
    return np.bincount(worker.open(start, stop)[0], minlength=stop - start)
