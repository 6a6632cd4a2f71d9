"""The sheet of a neighbour artifact: anchors with their closest and furthest images."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np

from pipeline.artifacts import artifact
from pipeline.data.shards import DataSet
from pipeline.search.bounds import Array
from pipeline.style import descriptors
from pipeline.tracking import sheets


def picture(near: Array, far: Array, data: DataSet, described: artifact.Card, anchors: int = 12) -> bytes:
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
    sheets.sheet(cells, names, columns, "Closest and furthest in style", note).save(sink, format="PNG")
    return sink.getvalue()
