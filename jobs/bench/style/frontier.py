"""Recall against bytes per image of codes for style vectors, fitted on other sets than they are measured on."""

from __future__ import annotations

import gc
import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from jobs.bench.style import codes
from jobs.bench.style.sets import Sets
from models.common import vgg
from pipeline.neighbours.options import Certified
from pipeline.neighbours.run import Search
from pipeline.search.rows import InMemory
from pipeline.style import sketches
from pipeline.style.sketches import SketchOptions
from pipeline.style.vectors import Vectors

Array = np.ndarray
RATIOS = (125, 250, 500, 1000, 2000, 4000)
"""Of the exact descriptor's bytes."""
NEAR, FAR, SHORT = 5, 13, 50
"""k of both lists; length of a short list that exact distances would decide."""
KINDS = {
    "pca": "this project: PCA, bits by variance, rest",
    "pca-product": "PCA, product quantisation (FAISS)",
    "pca-float16": "PCA, float16",
    "pca-int8": "PCA, int8",
    "projection": "this project: Gaussian projection",
    "tensor-sketch": "tensor sketch, float16",
}


class Point(NamedTuple):
    """What one code of one size recalls on one set."""

    set: str
    kind: str
    ratio: int
    bytes: int
    near: float
    """Recall@5 of the closest by the codes alone."""
    far: float
    """Recall@13 of the furthest."""
    short: float
    """Share of the true 5 closest among the 50 closest by the codes."""


def joined(parts: list[Vectors]) -> Array:
    """float32 N D: the rows of several artifacts, one after the other."""
    x = np.empty((sum(map(len, parts)), parts[0].dimension), np.float32)
    start = 0
    for part in parts:
        part.rows(0, len(part), out=x[start:])
        start += len(part)
    return x


def squared(v: Array, private: Array | float = 0.0) -> Array:
    """float64 n n: squared distances of all pairs of rows (any floats, n K); `private` is added to each side's."""
    x = torch.from_numpy(np.asarray(v, np.float64))
    x = x - x.mean(0)
    a = x.square().sum(1) + torch.as_tensor(private)
    return (a[:, None] + a - 2 * x @ x.T).numpy()


def nearest(d: Array, k: int, sign: int) -> Array:
    """int64 n k: each row's nearest (sign 1) or furthest (-1) others, best first."""
    signed = sign * d
    np.fill_diagonal(signed, np.inf)
    found = np.argpartition(signed, k - 1, axis=1)[:, :k]
    return np.take_along_axis(found, np.take_along_axis(signed, found, 1).argsort(1, kind="stable"), 1)


def shared(found: Array, wanted: Array) -> float:
    """Mean share of each row of `wanted` (n k) that the same row of `found` holds."""
    return float((wanted[:, :, None] == found[:, None, :]).any(2).mean())


class Truth:
    """Exact lists of one set."""

    def __init__(self, x: Array) -> None:
        d = squared(x)
        self.near, self.far = nearest(d, NEAR, 1), nearest(d, FAR, -1)

    def point(self, name: str, kind: str, ratio: int, size: int, d: Array) -> Point:
        """Of codes that give the distances d (float64 n n)."""
        found = nearest(d, min(SHORT, len(d) - 1), 1)
        near, short = shared(found[:, :NEAR], self.near), shared(found, self.near)
        return Point(name, kind, ratio, size, near, shared(nearest(d, FAR, -1), self.far), short)


def points(sets: Sets, name: str, ratios: tuple[int, ...] = RATIOS) -> Iterator[Point]:
    """All codes measured on the set `name`, fitted on the others."""
    others = [sets.fitted(other) for other in sets.names if other != name]
    fit = InMemory(joined(others))
    sizes = {ratio: 4 * fit.dimension // ratio for ratio in ratios}
    options = SketchOptions(bytes=max(sizes.values()), rows=len(fit), seed=sets.seed)
    valid = np.ones(len(fit), bool)
    fitted = sketches.principal(fit, valid, options)
    print(f"{name}: fitted on the others' crops: {fitted.notes}", flush=True)
    whole = sketches.Sketch(fitted.mean, fitted.basis, fitted.sketch(8).codec)
    sample = whole.coordinates(fit.x)[0]
    projections = {
        ratio: sketches.fit(fit, valid, SketchOptions("projection", size, seed=sets.seed))[0]
        for ratio, size in sizes.items()
    }
    del fit
    gc.collect()
    vectors = sets.measured(name)
    x, _ = vectors.rows(0, len(vectors))
    truth = Truth(x)
    p, norms = whole.coordinates(x)
    channels = [vgg.channels(sets.net.name, layer) for layer in sets.net.layers]
    for ratio, size in sizes.items():
        sketch = fitted.sketch(size)
        for kind, one in (("pca", sketch), ("projection", projections[ratio])):
            coded = one.codec.encode(p[:, : len(one.basis)], norms) if kind == "pca" else one(x)
            d = squared(one.codec.decode(coded), one.codec.private(coded))
            yield truth.point(name, kind, ratio, coded.shape[1], d)
        k = min(size // 2, p.shape[1])
        yield truth.point(name, "pca-float16", ratio, 2 * k, squared(codes.half(p, k, fitted.gain)))
        k = min(size, p.shape[1])
        yield truth.point(name, "pca-int8", ratio, k, squared(codes.byte(p, k, sample)))
        tried = [each for each in codes.SUBDIMENSIONS if size * each <= p.shape[1]]
        if tried and len(sample) >= 256:  # a byte's centroids
            found = [squared(codes.product(p, size, each, sample)) for each in tried]
            best = [truth.point(name, "pca-product", ratio, size, d) for d in found]
            yield max(best, key=lambda point: point.near)._replace(far=max(point.far for point in best))
        tensor = codes.TensorSketch(channels, size // 2, sets.seed)
        yield truth.point(name, "tensor-sketch", ratio, 2 * tensor.m, squared(tensor(x - fitted.mean, fitted.gain)))


def figures(found: list[Point], ratio: int = 500) -> dict[str, float]:
    """Of the project's sketch at a ratio: means over the sets, the worst set's, and each set's."""
    own = [point for point in found if point.kind == "pca" and point.ratio == ratio]
    result: dict[str, float] = {}
    for figure, field in (("recall5", "near"), ("recall13", "far")):
        values = {point.set: float(getattr(point, field)) for point in own}
        key = f"{figure}_at_{ratio}"
        result |= {key: float(np.mean(list(values.values()))), f"{key}_least": min(values.values())}
        result |= {f"{key}_{name}": value for name, value in values.items()}
    return result


def plot(found: list[Point], note: str) -> bytes:
    """A PNG: recall of both lists over bytes per image, a line a kind (mean of the sets) and a dot a set."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter, NullLocator

    sets = list(dict.fromkeys(point.set for point in found))
    figure, axes = pyplot.subplots(1, 2, figsize=(13, 6.6), sharex=True)
    panels = (("near", f"{NEAR} closest: recall@{NEAR}"), ("far", f"{FAR} furthest: recall@{FAR}"))
    for axis, (field, title) in zip(axes, panels, strict=True):
        for number, (kind, label) in enumerate(KINDS.items()):
            some = [point for point in found if point.kind == kind]
            ratios = sorted({point.ratio for point in some}, reverse=True)
            each = [[point for point in some if point.ratio == ratio] for ratio in ratios]
            colour = f"C{number}"
            sizes = [float(np.mean([point.bytes for point in points])) for points in each]
            means = [float(np.mean([getattr(point, field) for point in points])) for points in each]
            axis.plot(
                sizes, means, color=colour, linewidth=2.4 if kind == "pca" else 1.4, label=label, marker="o", ms=4
            )
            axis.plot([p.bytes for p in some], [getattr(p, field) for p in some], ".", color=colour, ms=3, alpha=0.5)
        axis.set_xscale("log")
        ticks = sorted({point.bytes for point in found if point.kind == "pca"})
        names = {point.bytes: f"{point.bytes}\n1/{point.ratio}" for point in found if point.kind == "pca"}
        axis.set_xticks(ticks, [names[tick] for tick in ticks])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel("bytes per image, and share of the exact float32 descriptor")
        axis.set_title(title + ", without re-ranking")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=3, bbox_to_anchor=(0.5, 0.065))
    lines = f"Lines: mean of the sets {', '.join(sets)}; dots: each. Fitted on the other sets only.\n{note}"
    figure.text(0.5, 0.012, lines, ha="center", fontsize=9)
    figure.tight_layout(rect=(0, 0.15, 1, 1))
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=110)
    pyplot.close(figure)
    return sink.getvalue()


def certified_share(sets: Sets, name: str) -> float:
    """Share of the rows that jobs.neighbours compares for the set's exact lists (`certified`)."""
    import tempfile

    vectors = sets.measured(name)
    with tempfile.TemporaryDirectory() as folder:
        card = Search(vectors.folder, folder, Certified(near=NEAR, far=FAR, workers=1)).run()
        return float(card["notes"]["compared_share"])
