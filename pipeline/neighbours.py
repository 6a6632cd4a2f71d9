"""Style descriptors -> for each image its k closest (itself left out) and k furthest, exact.

Work is cut into tiles of one query block by one span of database blocks; a tile's candidates are a small file, joined
by an associative merge, so that tiles may be done in any order, on any worker, and again. Then each query block streams
the database once more and recomputes its finalists exactly (pipeline.search says why that is enough).

The artifact has one part a shard: `key`, `near` and `far` (positions in key order), `near_distance`, `far_distance`
(float64 squared style distances); near ascending, far descending, ties by position. An image without a descriptor has
nulls, and is in nobody's list.

Memory of a worker: 2 x block x D x 4 bytes of vectors (D: the descriptor's length), 4 x block^2 x 4 of products, one
row group; not of the number of images (but for 16 bytes each, their norms).
"""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import torch

from pipeline import artifacts, descriptors, pictures, search, storage, workers
from pipeline.search import Array, Candidates
from pipeline.shards import DataSet

PAIRS = 32
"""Pairs whose exact distances are taken in one call: 1 MB of float64 differences at a time, which fits the cache."""
VERSION = 1
"""Of the algorithm; part of the request."""

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("near", pa.list_(pa.int32())),
        ("near_distance", pa.list_(pa.float64())),
        ("far", pa.list_(pa.int32())),
        ("far_distance", pa.list_(pa.float64())),
    ]
)


Item = tuple[str, int, int]
"""("tile", query block, span) or ("lists", query block, 0)."""


@dataclass(frozen=True)
class Blocks:
    """The query blocks of a search, and where their lists are kept until the parts that hold their rows are complete:
    scratch/lists-BLOCK.npz with the artifact's columns and `valid`, bool a row."""

    descriptors: str
    """Folder of the descriptor artifact."""
    scratch: str
    """Folder of the units' results; its name and the request hold all that they depend on."""
    near: int
    far: int
    rows: int
    block: int
    """Rows of a query block."""

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """(start, stop) of each block."""
        return [(start, min(start + self.block, self.rows)) for start in range(0, self.rows, self.block)]

    def items(self, blocks: list[int]) -> list[Any]:
        """The units of work that are still to do for these query blocks, each after those that it waits for."""
        raise NotImplementedError


@dataclass(frozen=True)
class Plan(Blocks):
    """What every worker of the exact search needs to know; database blocks are as large as query blocks."""

    margin: int
    """Candidates kept beyond k."""
    spans: int
    """Runs of database blocks that a query block's tiles are spread over."""
    device: str = "cpu"
    """Where products are taken and the best are kept: `cuda` within an actor that has a GPU. Not FAISS's own search on
    a GPU: it has no furthest, and one product would not serve both lists."""

    def span(self, number: int) -> list[tuple[int, int]]:
        return self.blocks[number :: self.spans]

    def path(self, name: str) -> str:
        return storage.join(self.scratch, name + ".npz")

    def items(self, blocks: list[int]) -> list[Item]:
        """What is still to do for these query blocks, each block's tiles before its lists: a list waits for its tiles,
        which then are done or in other workers' hands."""
        there = set(storage.names(self.scratch))
        found: list[Item] = []
        for b in blocks:
            if f"lists-{b:05d}.npz" not in there:
                found += [("tile", b, s) for s in range(self.spans) if f"tile-{b:05d}-{s:05d}.npz" not in there]
                found.append(("lists", b, 0))
        return found


def pieces(part_rows: list[int], least: int) -> tuple[tuple[int, int], ...]:
    """(first row, last + 1) of runs of whole parts with at least `least` rows each."""
    found, start, stop = [], 0, 0
    for rows in part_rows:
        stop += rows
        if stop - start >= least:
            found.append((start, stop))
            start = stop
    if stop > start:
        found.append((start, stop))
    return tuple(found)


def save_arrays(path: str, **arrays: Array) -> None:
    """Publish arrays as an .npz file."""
    sink = io.BytesIO()
    np.savez(sink, **arrays)  # type: ignore[arg-type]
    storage.publish(path, sink.getvalue())


def load_arrays(path: str) -> dict[str, Array]:
    """All arrays of an .npz file."""
    with np.load(io.BytesIO(storage.read(path)), allow_pickle=False) as found:
        return dict(found)


class Worker:
    """One actor's state: the vectors, their mean, and the query block in hand."""

    def __init__(self, plan: Plan, mean: Array) -> None:
        faiss.omp_set_num_threads(torch.get_num_threads())
        self.device = torch.device(plan.device)
        self.plan, self.mean = plan, mean
        self.vectors = descriptors.Vectors(plan.descriptors)
        self.kappa = search.kappa(self.vectors.dimension)
        size = (min(plan.block, plan.rows), self.vectors.dimension)
        self._room = np.empty(size, np.float32), np.empty(size, np.float32)
        self._query: tuple[tuple[int, int], bool] | None = None
        self._valid = np.empty(0, bool)
        self._norms: dict[int, Array] = {}  # of the blocks seen, by first row: 8 bytes an image

    def _block(self, at: tuple[int, int], room: Array, centred: bool) -> tuple[Array, Array]:
        x, valid = self.vectors.rows(*at, out=room)
        if centred:
            x -= self.mean
            x[~valid] = 0
        return x, valid

    def _queries(self, at: tuple[int, int], centred: bool) -> tuple[Array, Array]:
        if self._query != (at, centred):
            _, self._valid = self._block(at, self._room[0], centred)
            self._query = (at, centred)
        return self._room[0][: at[1] - at[0]], self._valid

    def tile(self, block: int, span: int) -> None:
        """Near and far candidates of a query block within a span, from one pass over each block product; a list of
        length 0 is left out."""
        plan, at = self.plan, self.plan.blocks[block]
        x, valid = self._queries(at, centred=True)
        private = self.vectors.private
        a = search.squared_norms(x) + private[at[0] : at[1]]
        left = torch.from_numpy(x).to(self.device) if self.device.type != "cpu" else None
        heaps: list[tuple[str, int, Any]] = []
        for name, k, sign in (("near", plan.near, -1), ("far", plan.far, 1)):
            if k:
                given = len(x), k + plan.margin, sign > 0
                heaps.append((name, sign, search.Heaps(*given) if left is None else search.Tops(*given, self.device)))
        last, norms = heaps[-1][0], np.zeros(plan.rows)
        for start, stop in plan.span(span):
            y, good = self._block((start, stop), self._room[1], centred=True)
            if start not in self._norms:
                self._norms[start] = search.squared_norms(y) + private[start:stop]
                search.must_be_finite(self._norms[start], plan.descriptors)
            b = norms[start:stop] = self._norms[start]
            p: Any = search.products(x, y) if left is None else search.inner(left, torch.from_numpy(y).to(self.device))
            p *= -2
            for name, sign, heap in heaps:
                own: Any = ((1 + sign * self.kappa) * b).astype(np.float32)
                if left is not None:
                    bound = p + torch.from_numpy(own).to(self.device)
                else:  # the last one needs no copy of the products
                    bound = np.add(p, own, out=p if name == last else None)
                _leave_out(bound, at, start, good, sign * -np.inf)
                heap.add(bound, start)
        saved = {"valid": valid}
        for name, sign, heap in heaps:
            values, columns = heap.result()
            saved[f"{name}_bounds"] = -sign * (values.astype(np.float64) + (1 + sign * self.kappa) * a[:, None])
            saved[f"{name}_widths"] = 2 * self.kappa * (a[:, None] + norms[columns])
            saved[f"{name}_columns"] = columns
        save_arrays(plan.path(f"tile-{block:05d}-{span:05d}"), **saved)

    def lists(self, block: int) -> dict[str, Any]:
        """Merge a query block's tiles, recompute the finalists exactly, save its lists."""
        plan, at = self.plan, self.plan.blocks[block]
        paths = [plan.path(f"tile-{block:05d}-{span:05d}") for span in range(plan.spans)]
        while not all(map(storage.exists, paths)):  # handed out before this, to other workers
            time.sleep(0.05)
        tiles = [load_arrays(path) for path in paths]
        sides = {}
        for name, k in (("near", plan.near), ("far", plan.far)):
            parts = [Candidates(*(t[f"{name}_{what}"] for what in ("bounds", "widths", "columns"))) for t in tiles]
            sign = 1 if name == "near" else -1
            sides[name] = _Side(Candidates.merge(parts), k, sign, tiles[0]["valid"], at[0], self.vectors.private)
        for start, stop in plan.blocks:
            extra = {name: self._unproved(side, at, (start, stop)) for name, side in sides.items() if len(side.open)}
            x, _ = self._queries(at, centred=False)
            y, _ = self._block((start, stop), self._room[1], centred=False)
            for name, side in sides.items():
                side.take(x, y, start, stop, extra.get(name, {}))
        saved = {"valid": tiles[0]["valid"]}
        for name, side in sides.items():
            columns, saved[f"{name}_distance"] = side.lists()
            saved[name] = columns.astype(np.int32)
        save_arrays(plan.path(f"lists-{block:05d}"), **saved)
        return {f"{name}_widened": len(side.open) for name, side in sides.items()}

    def _unproved(self, side: _Side, at: tuple[int, int], other: tuple[int, int]) -> dict[int, Array]:
        """Row -> columns within its reach, for the rows that the candidates do not suffice for."""
        x, _ = self._queries(at, centred=True)
        y, good = self._block(other, self._room[1], centred=True)
        private = self.vectors.private
        a = search.squared_norms(x[side.open]) + private[at[0] + side.open]
        b = search.squared_norms(y) + private[other[0] : other[1]]
        lower = side.sign * (a[:, None] + b - 2.0 * search.products(x, y, side.open))
        lower -= self.kappa * (a[:, None] + b)
        within = (lower <= side.reach[side.open][:, None]) & good
        return {int(r): np.flatnonzero(w) + other[0] for r, w in zip(side.open, within, strict=True)}


def _leave_out(bound: Any, at: tuple[int, int], start: int, good: Array, value: float) -> None:
    """Strike out the queries themselves and the rows without a vector; `bound`: an array, or a tensor on a device."""
    bound[:, ~good] = value
    same = np.arange(max(at[0], start), min(at[1], start + bound.shape[1]))
    bound[same - at[0], same - start] = value


class _Side:
    """One of the two lists of a query block while the database streams past: `sign` 1 near, -1 far."""

    def __init__(self, candidates: Candidates, k: int, sign: int, valid: Array, first: int, private: Array) -> None:
        self.k, self.sign, self.candidates, self.first, self.private = k, sign, candidates, first, private
        self.reach, self.finalists, certified = candidates.judge(k)
        self.finalists &= valid[:, None]
        self.open = np.flatnonzero(~certified & valid)
        self.finalists[self.open] = False  # all within reach are taken for these rows
        self.exact = np.full(self.finalists.shape, sign * np.inf)
        self.rest = {int(row): (np.empty(0), np.empty(0, np.int64)) for row in self.open}  # distances, columns

    def take(self, x: Array, y: Array, start: int, stop: int, extra: dict[int, Array]) -> None:
        """Exact distances to this block's finalists (rows start to stop of the database are `y`)."""
        c = self.candidates.columns
        rows, places = np.nonzero(self.finalists & (c >= start) & (c < stop))

        def some(pairs: Array) -> None:
            at = rows[pairs], places[pairs]
            self.exact[at] = self._distances(x, y, rows[pairs], c[at], start)

        with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # numpy lets other threads run meanwhile
            list(threads.map(some, np.array_split(np.arange(len(rows)), -(-len(rows) // PAIRS) or 1)))
        for row, columns in extra.items():
            columns = columns[columns != row + self.first]
            found = self._distances(x, y, np.full(len(columns), row), columns, start)
            known, there = self.rest[row]
            found, columns = np.concatenate([known, found]), np.concatenate([there, columns])
            best = np.lexsort((columns, self.sign * found))[: self.k]
            self.rest[row] = found[best], columns[best]

    def _distances(self, x: Array, y: Array, rows: Array, columns: Array, start: int) -> Array:
        """`y`: the database from row `start` on."""
        found = search.distances(x, y, rows, columns - start)
        found += self.private[self.first + rows] + self.private[columns]
        return found

    def lists(self) -> tuple[Array, Array]:
        """(columns int64 n k, distances float64 n k), best first, ties by column; -1, infinity: none."""
        order = np.lexsort((self.candidates.columns, self.sign * self.exact), axis=1)[:, : self.k]
        distances = np.take_along_axis(self.exact, order, 1)
        columns = np.where(np.isinf(distances), -1, np.take_along_axis(self.candidates.columns, order, 1))
        for row, (found, there) in self.rest.items():
            distances[row, : len(found)], columns[row, : len(found)] = found, there
        return columns, distances


def centre(vectors: descriptors.Vectors) -> Array:
    """float32 D: the mean of some rows of each part, summed in float64 in row order. Any centre gives the same lists;
    one near the mean keeps the bounds narrow."""
    total, count = np.zeros(vectors.dimension), 0
    for part in range(len(vectors.part_rows)):
        for _, rows, valid in vectors.groups(part):
            for row in rows[valid]:
                total += row
            count += int(valid.sum())
            break  # its first row group is enough
    return (total / max(1, count)).astype(np.float32)


def make(plan: Plan, mean: Array) -> Callable[[Item], dict[str, Any]]:
    """For `workers.each`: ("tile", block, span) or ("lists", block, 0)."""
    worker = Worker(plan, mean)

    def work(item: Item) -> dict[str, Any]:
        began = time.perf_counter()
        kind, block, span = item
        counts: dict[str, Any] = {}
        if kind == "tile":
            worker.tile(block, span)
        else:
            counts = worker.lists(block)
        spent = {"seconds": time.perf_counter() - began, "peak_kb": workers.peak_kb()}
        return {"what": kind, "block": block, "span": span, **spent, **counts}

    return work


class Parts:
    """Publishes each part when the query blocks that hold its rows are done."""

    def __init__(self, plan: Blocks, folder: str, part_rows: list[int], todo: list[int]) -> None:
        self.plan, self.folder, self.todo = plan, folder, list(todo)
        stops = np.cumsum(part_rows).astype(int).tolist()
        self.runs = {part: (stops[part] - part_rows[part], stops[part]) for part in range(len(part_rows))}

    def _blocks(self, part: int) -> range:
        start, stop = self.runs[part]
        return range(start // self.plan.block, -(-stop // self.plan.block)) if stop > start else range(0)

    def blocks(self) -> list[int]:
        """The query blocks that hold rows of unpublished parts."""
        return sorted({b for part in self.todo for b in self._blocks(part)})

    def publish(self) -> list[int]:
        """Publish what is complete; returns the parts."""
        there = set(storage.names(self.plan.scratch))
        ready = [p for p in self.todo if all(f"lists-{b:05d}.npz" in there for b in self._blocks(p))]
        for part in ready:
            self._publish(part)
            self.todo.remove(part)
        return ready

    def _publish(self, part: int) -> None:
        start, stop = self.runs[part]
        pieces = []
        for b in self._blocks(part):
            first = self.plan.blocks[b][0]
            saved = load_arrays(storage.join(self.plan.scratch, f"lists-{b:05d}.npz"))
            pieces.append({name: rows[max(0, start - first) : stop - first] for name, rows in saved.items()})
        keys = artifacts.read_part(self.plan.descriptors, part, ["key"])["key"].to_pylist()
        columns: dict[str, Any] = {"key": keys}
        good = np.concatenate([np.empty(0, bool), *(piece["valid"] for piece in pieces)])
        for name in SCHEMA.names[1:]:
            rows = np.concatenate([piece[name] for piece in pieces]) if pieces else np.empty((0, 1))
            columns[name] = _lists(rows, good, SCHEMA.field(name).type)
        artifacts.publish_part(self.folder, part, pa.table(columns, schema=SCHEMA))


def _lists(rows: Array, valid: Array, kind: pa.ListType) -> pa.Array:
    """n k -> n lists, null where not valid."""
    ends = np.append(0, np.cumsum(valid)) * rows.shape[1]
    offsets = pa.array(ends, pa.int32(), mask=np.append(~valid, False))
    return pa.ListArray.from_arrays(offsets, pa.array(rows[valid].ravel(), kind.value_type), type=kind)


@dataclass(frozen=True)
class Neighbours:
    """A finished artifact in memory. Rows of images without a descriptor hold -1 and NaN."""

    keys: list[str]
    near: Array
    """int32 N k_c: positions, ascending by distance."""
    near_distance: Array
    """float64 N k_c: squared style distances."""
    far: Array
    """int32 N k_f: positions, furthest first."""
    far_distance: Array
    """float64 N k_f."""
    card: artifacts.Card


def _matrix(table: pa.Table, name: str, k: int, kind: Any, missing: float) -> Array:
    column = table[name].combine_chunks()
    rows = np.full((len(column), k), missing, kind)
    rows[column.is_valid().to_numpy(zero_copy_only=False)] = column.flatten().to_numpy().reshape(-1, k)
    return rows


def read_lists(folder: str, parts: int, near: int, far: int) -> tuple[list[str], dict[str, Array]]:
    """Keys and the four matrices of all parts in order."""
    table = pa.concat_tables([artifacts.read_part(folder, part) for part in range(parts)])
    return table["key"].to_pylist(), {
        "near": _matrix(table, "near", near, np.int32, -1),
        "near_distance": _matrix(table, "near_distance", near, np.float64, np.nan),
        "far": _matrix(table, "far", far, np.int32, -1),
        "far_distance": _matrix(table, "far_distance", far, np.float64, np.nan),
    }


def publish_far(source: str, folder: str, parts: int, far: Array, distance: Array) -> None:
    """The parts of the artifact `source` with other furthest lists (N k_f; rows of -1 stay null)."""
    start = 0
    for part in range(parts):
        table = artifacts.read_part(source, part)
        rows = slice(start, start + table.num_rows)
        start += table.num_rows
        for name, values in (("far", far[rows]), ("far_distance", distance[rows])):
            cells = [v if at[0] >= 0 else None for v, at in zip(values.tolist(), far[rows].tolist(), strict=True)]
            column = pa.array(cells, SCHEMA.field(name).type)
            table = table.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), column)
        artifacts.publish_part(folder, part, table)


def load(folder: str) -> Neighbours:
    """Raises ValueError where the artifact is not finished, damaged, or of another kind."""
    card = artifacts.load_card(folder, "neighbours")
    keys, lists = read_lists(folder, card["parts"], card["options"]["near"], card["options"]["far"])
    return Neighbours(keys, card=card, **lists)


def hubs(far: Array) -> dict[str, Any]:
    """How few images fill the furthest lists (N k_f positions; rows of -1 are left out): a handful of outliers is
    everybody's furthest, and as triplets' negatives that is all an encoder sees."""
    lists = far[far[:, 0] >= 0]
    counts = np.sort(np.unique(lists, return_counts=True)[1])[::-1]
    if not len(counts):
        return {}
    return {
        "far_most_frequent_share": int(counts[0]) / len(lists),
        "far_distinct": len(counts),
        "far_top10_share": int(counts[:10].sum()) / lists.size,
    }


def same_label(near: Array, labels: list[str | None], closest: int = 5) -> float | None:
    """Share of the `closest` nearest that have their anchor's label; None where no image has one."""
    known = np.array(["" if label is None else label for label in labels])
    rows = (near[:, 0] >= 0) & (known != "")
    if not rows.any():
        return None
    return float((known[near[rows][:, :closest]] == known[rows][:, None]).mean())


def picture(near: Array, far: Array, data: DataSet, described: artifacts.Card, anchors: int = 12) -> bytes:
    """A sheet as PNG: evenly chosen anchors, each with its 5 closest and 5 furthest; last, the images that are in most
    of the furthest lists."""
    rows = np.flatnonzero(near[:, 0] >= 0)
    chosen = rows[np.linspace(0, len(rows) - 1, min(anchors, len(rows))).astype(int)].tolist()
    field, size = described["inputs"]["field"], described["options"]["size"]

    def image(i: int) -> Array:
        return descriptors.prepare(data.image(int(i), field), size, 1)

    cells: list[list[Array | None]] = [
        [image(i), *map(image, near[i, :5]), None, *map(image, far[i, :5])] for i in chosen
    ]
    names = [f"{data.keys[i]} {data.labels[i] or ''}".strip() for i in chosen]
    closest, furthest = min(5, near.shape[1]), min(5, far.shape[1])
    top = Counter(far[rows].ravel().tolist()).most_common(furthest)
    cells.append([None] * (closest + 2) + [image(i) for i, _ in top])
    shares = ", ".join(f"{100 * count / len(rows):.0f}%" for _, count in top)
    names.append(f"most frequent among the furthest: in {shares} of the lists")
    columns = ["anchor", *(f"close {n + 1}" for n in range(closest)), "", *(f"far {n + 1}" for n in range(furthest))]
    notes, options = described["notes"], described["options"]
    weights = f"RANDOM weights ({notes['weights']})" if notes["random_weights"] else f"weights {notes['weights']}"
    note = f"{options['net']} {', '.join(options['layers'])}; {weights}; {options['precision']}"
    sink = io.BytesIO()
    pictures.sheet(cells, names, columns, "Closest and furthest in style", note).save(sink, format="PNG")
    return sink.getvalue()
