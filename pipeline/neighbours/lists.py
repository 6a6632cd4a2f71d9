"""The artifact of neighbour lists: for each image its closest and furthest in style, found by pipeline.exact, certified
or index.

One part a shard: `key`, `near` and `far` (positions in key order), `near_distance`, `far_distance` (float64 squared
style distances); near ascending, far descending, ties by position. An image without a descriptor has nulls, and is in
nobody's list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.artifacts import artifact, storage
from pipeline.neighbours.units import Plan, load_arrays
from pipeline.search.bounds import Array
from pipeline.style.vectors import Vectors

VERSION = 1
"""Of the algorithm; part of the request."""

CENTRE = 16
"""Row groups, spread evenly, that the centre is the mean of."""

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("near", pa.list_(pa.int32())),
        ("near_distance", pa.list_(pa.float64())),
        ("far", pa.list_(pa.int32())),
        ("far_distance", pa.list_(pa.float64())),
    ]
)


def centre(vectors: Vectors) -> Array:
    """float32 D: the mean of some rows from all over the artifact, summed in float64 in row order. Any centre gives the
    same lists; one near the mean keeps the bounds narrow."""
    total, count = np.zeros(vectors.dimension), 0
    for start, stop in vectors.bounds[:: -(-len(vectors.bounds) // CENTRE)]:
        rows, valid = vectors.rows(start, stop)
        total += rows[valid].sum(axis=0, dtype=np.float64)
        count += int(valid.sum())
    return (total / max(1, count)).astype(np.float32)


class Parts:
    """Publishes each part when the query blocks that hold its rows are done."""

    def __init__(self, plan: Plan, folder: str, part_rows: list[int], todo: list[int]) -> None:
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
        ready = [p for p in self.todo if all(self.plan.name(("lists", b)) in there for b in self._blocks(p))]
        for part in ready:
            self._publish(part)
            self.todo.remove(part)
        return ready

    def _publish(self, part: int) -> None:
        start, stop = self.runs[part]
        pieces = []
        for b in self._blocks(part):
            first = self.plan.blocks[b][0]
            saved = load_arrays(self.plan.path(("lists", b)))
            pieces.append({name: rows[max(0, start - first) : stop - first] for name, rows in saved.items()})
        keys = artifact.read_part(self.plan.descriptors, part, ["key"])["key"].to_pylist()
        columns: dict[str, Any] = {"key": keys}
        good = np.concatenate([np.empty(0, bool), *(piece["valid"] for piece in pieces)])
        for name in SCHEMA.names[1:]:
            rows = np.concatenate([piece[name] for piece in pieces]) if pieces else np.empty((0, 1))
            columns[name] = _lists(rows, good, SCHEMA.field(name).type)
        artifact.publish_part(self.folder, part, pa.table(columns, schema=SCHEMA))


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
    card: artifact.Card


def _matrix(table: pa.Table, name: str, k: int, kind: Any, missing: float) -> Array:
    column = table[name].combine_chunks()
    rows = np.full((len(column), k), missing, kind)
    rows[column.is_valid().to_numpy(zero_copy_only=False)] = column.flatten().to_numpy().reshape(-1, k)
    return rows


def read_lists(folder: str, parts: int, near: int, far: int) -> tuple[list[str], dict[str, Array]]:
    """Keys and the four matrices of all parts in order."""
    table = pa.concat_tables([artifact.read_part(folder, part) for part in range(parts)])
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
        table = artifact.read_part(source, part)
        rows = slice(start, start + table.num_rows)
        start += table.num_rows
        for name, values in (("far", far[rows]), ("far_distance", distance[rows])):
            cells = [v if at[0] >= 0 else None for v, at in zip(values.tolist(), far[rows].tolist(), strict=True)]
            column = pa.array(cells, SCHEMA.field(name).type)
            table = table.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), column)
        artifact.publish_part(folder, part, table)


def load(folder: str) -> Neighbours:
    """Raises ValueError where the artifact is not finished, damaged, or of another kind."""
    card = artifact.load_card(folder, "neighbours")
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
