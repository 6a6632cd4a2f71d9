"""Style vectors -> small codes whose distances stand for the vectors' own.

A style vector has tens to hundreds of thousands of numbers; a million of them fill a terabyte. A sketch keeps its
coordinates p in a few hundred directions and the norm r of what that leaves out:

- `pca`: the principal directions of a sample of rows, by its n x n matrix of inner products (the dual problem; D x D
  would be 7 GB for VGG-19 to relu3_1). Gram spectra are steep, so few directions hold nearly all of the variance.
- `projection`: seeded Gaussian directions (Johnson, Lindenstrauss 1984); nothing is fitted, any data will do.

Distances. With v the decoded vector and r = |x - mean - v|, what was left out included,

    d^2(a, b) ~ |v_a - v_b|^2 + r_a^2 + r_b^2 - 2 c r_a r_b,

c the cosine between two rows' rests: 0 for unrelated ones, more for neighbours. That is a squared Euclidean distance
again: of v with sqrt(c) r beside it, and one coordinate more, sqrt(1 - c) r, that each row has to itself
(`Vectors.private`). A projection is unbiased without its rest: r is 0.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from pipeline.artifacts import artifact
from pipeline.artifacts.scratch import Scratch
from pipeline.search.rows import Rows
from pipeline.style.codec import COSINE, MOST_BITS, Codec, codec_for, codec_of

Array = np.ndarray
VERSION = 1
"""Of the algorithm; part of the request."""
CHUNK = 4096
"""Columns of a sample that are held at a time."""


@dataclass(frozen=True)
class SketchOptions:
    """What a sketch is made of."""

    kind: Literal["pca", "projection"] = "pca"
    bytes: int = 346
    """Per image, gain and rest (2 each) included; 346: 1/500 of VGG-19's descriptor to relu3_1 in float32."""
    components: int = 0
    """Directions; 0: one per four bits (pca) or per eight (projection), no more than the sample can show."""
    rows: int = 4096
    """Rows that are fitted on; a quarter of them for the codes alone. As many x D x 4 bytes of scratch disk."""
    seed: int = 0
    """Of the choice of rows and of a projection's directions."""

    def __post_init__(self) -> None:
        if self.bytes < 8:
            raise ValueError(f"--bytes {self.bytes}: give at least 8 (4 of them are the gain and the rest)")
        if self.components < 0 or self.rows < 16:
            raise ValueError(f"--components {self.components}, --rows {self.rows}: at least 0 and 16")


@dataclass(frozen=True)
class Sketch:
    """Directions and codec: style vectors -> codes."""

    mean: Array
    """float32 D."""
    basis: Array
    """float32 K D; pca: orthonormal rows."""
    codec: Codec

    def coordinates(self, x: Array) -> tuple[Array, Array]:
        """float32 n D -> (p float32 n K, |x - mean| float64 n)."""
        return coordinates(x, self.mean, self.basis)

    def __call__(self, x: Array) -> Array:
        """float32 n D -> uint8 n bytes."""
        p, norms = self.coordinates(x)
        # A projection's gain is its own norm: nothing but p is known to it.
        return self.codec.encode(p, norms if self.codec.cosine < 1 else np.sqrt((p.astype(np.float64) ** 2).sum(1)))


@dataclass(frozen=True)
class Fitted:
    """Principal directions of a sample, and what codecs of any size need to know of it."""

    mean: Array
    """float32 D."""
    basis: Array
    """float32 K D: orthonormal rows."""
    u: Array
    """float64 n K: the directions' coordinates of rows that were not fitted on, divided by |x - mean|."""
    gain: float
    """Those rows' mean |x - mean|."""
    notes: dict[str, Any]

    def sketch(self, size: int, components: int = 0) -> Sketch:
        """The first `components` directions (0: one per four bits) with a codec of `size` bytes."""
        bits = 8 * (size - 4)
        k = min(components or bits // 4, len(self.basis))
        return Sketch(self.mean, self.basis[:k], codec_for(self.u[:, :k], self.gain, bits, COSINE))


class NoDirections(ValueError):
    """Fewer than 16 rows, or rows that are all equal."""


def fit(rows: Rows, valid: Array, options: SketchOptions) -> tuple[Sketch, dict[str, Any]]:
    """Fit a sketch to some of the rows, `valid` (bool N) ones; returns it and what is worth noting.

    Raises:
        NoDirections: fewer than 16 rows, or rows that are all equal.
        ValueError: a vector that is not finite.
    """
    if options.kind == "projection":
        chosen = _choose(valid, options)
        bits = 8 * (options.bytes - 4)
        k = min(options.components or bits // 8, rows.dimension)
        basis = _gaussian(k, rows.dimension, options.seed)
        codec = _codec_of_projection(rows, chosen[:256], basis, bits)
        return Sketch(np.zeros(rows.dimension, np.float32), basis, codec), {"fitted": 0}
    fitted = principal(rows, valid, options)
    return fitted.sketch(options.bytes, options.components), fitted.notes


def _choose(valid: Array, options: SketchOptions) -> Array:
    there = np.flatnonzero(valid)
    if len(there) < 16:
        raise NoDirections(f"--descriptors: {len(there)} described images; a sketch is fitted to at least 16")
    return np.random.default_rng(options.seed).permutation(there)[: options.rows]


def principal(rows: Rows, valid: Array, options: SketchOptions) -> Fitted:
    """The principal directions that `options` ask for, of some of the `valid` (bool N) rows; a fourth of those is held
    out, for the codecs. One fit serves sketches of fewer bytes, too (`Fitted.sketch`)."""
    chosen = _choose(valid, options)
    held_out = len(chosen) // 4
    directions = len(chosen) - held_out - 1
    k = min(options.components or 8 * (options.bytes - 4) // 4, directions, rows.dimension)
    with Scratch("sketch") as folder:
        path = f"{folder}/sample"
        _copy(rows, chosen, path)
        shape = (len(chosen), rows.dimension)
        mean, basis = _principal(path, shape, len(chosen) - held_out, k)
        x = np.memmap(path, np.float32, "r", shape=shape)[len(chosen) - held_out :]
        parts = [coordinates(np.array(x[i : i + 256]), mean, basis) for i in range(0, len(x), 256)]
        del x
    if not all(np.isfinite(norms).all() for _, norms in parts):
        raise ValueError("--descriptors: a vector is not finite; describe the images again")
    p, norms = (np.concatenate(column) for column in zip(*parts, strict=True))
    u = p / np.maximum(norms, np.finfo(np.float64).tiny)[:, None]
    kept = (p.astype(np.float64) ** 2).sum() / (norms**2).sum()  # of rows that were not fitted on
    notes = {"fitted": len(chosen) - held_out, "held_out": held_out, "variance_kept_held_out": float(kept)}
    return Fitted(mean, basis, u, float(norms.mean()), notes)


def coordinates(x: Array, mean: Array, basis: Array) -> tuple[Array, Array]:
    """float32 n D -> (coordinates about the mean float32 n K, |x - mean| float64 n)."""
    centred = torch.from_numpy(x) - torch.from_numpy(mean)
    norms = torch.linalg.vector_norm(centred, dim=1, dtype=torch.float64)
    return (centred @ torch.from_numpy(basis).T).numpy(), norms.numpy()


def _gaussian(k: int, dimension: int, seed: int) -> Array:
    generator = torch.Generator().manual_seed(seed)
    basis: Array = (torch.randn(k, dimension, generator=generator) / k**0.5).numpy()
    return basis


def _codec_of_projection(rows: Rows, chosen: Array, basis: Array, bits: int) -> Codec:
    """A unit vector's coordinates in random directions have one known deviation; only the gain's range is looked up."""
    k = len(basis)
    with Scratch("sketch") as folder:
        _copy(rows, chosen, f"{folder}/sample")
        x = np.fromfile(f"{folder}/sample", np.float32).reshape(len(chosen), -1)
    gain = float(np.linalg.norm(x @ basis.T, axis=1).mean())
    if not gain > 0:
        raise NoDirections("--descriptors: the sampled images all have the descriptor 0")
    each = min(MOST_BITS, bits // k)
    return Codec((each,) * k, (k**-0.5,) * k, (float(np.arcsinh(6.0)),) * k, gain, 1.0)


def _copy(rows: Rows, chosen: Array, path: str) -> None:
    """The chosen rows, in their order, to a file of float32."""
    out = np.memmap(path, np.float32, "w+", shape=(len(chosen), rows.dimension))
    order = np.argsort(chosen)
    step = max(1, (1 << 28) // (4 * rows.dimension))
    for start in range(0, len(rows), step):  # each row group is read once
        some = order[slice(*np.searchsorted(chosen[order], (start, start + step)))]
        if len(some):
            first, last = int(chosen[some[0]]), int(chosen[some[-1]])
            x, _ = rows.rows(first, last + 1)
            out[some] = x[chosen[some] - first]
    out.flush()


def _principal(path: str, shape: tuple[int, int], fitted: int, k: int) -> tuple[Array, Array]:
    """(mean float32 D, orthonormal principal directions float32 k D) of the first `fitted` rows, by the eigenvectors
    of their matrix of inner products; columns are read a chunk at a time, twice."""

    def chunks() -> Any:
        for start in range(0, shape[1], CHUNK):
            x = np.memmap(path, np.float32, "r", shape=shape)[:fitted, start : start + CHUNK]
            part = torch.from_numpy(np.array(x))
            middle = part.double().mean(0).float()
            yield start, part - middle, middle

    inner = torch.zeros(fitted, fitted, dtype=torch.float64)
    mean, basis = torch.empty(shape[1]), torch.empty(k, shape[1])
    for start, x, middle in chunks():
        mean[start : start + CHUNK] = middle
        inner += (x @ x.T).double()
    if not inner.isfinite().all():
        raise ValueError("--descriptors: a vector is not finite, or too long; describe the images again")
    values, vectors = torch.linalg.eigh(inner)
    if not values[-1] > 1e-12 * fitted * float(mean.double().square().sum()):
        raise NoDirections("--descriptors: the sampled images all have the same descriptor; nothing can be told apart")
    values, vectors = values.flip(0)[:k], vectors.flip(1)[:, :k]
    combine = (vectors / values.clamp_min(values[0] * 1e-12 + torch.finfo(torch.float64).tiny).sqrt()).T.float()
    products = torch.zeros(k, k, dtype=torch.float64)
    for start, x, _ in chunks():
        basis[:, start : start + CHUNK] = combine @ x
        part = basis[:, start : start + CHUNK].double()
        products += part @ part.T
    # Directions of small variance come out of float32 a little askew: made orthonormal (Cholesky QR).
    upright = torch.linalg.inv(torch.linalg.cholesky(products + 1e-9 * torch.eye(k, dtype=torch.float64))).float()
    for start in range(0, shape[1], CHUNK):
        basis[:, start : start + CHUNK] = upright @ basis[:, start : start + CHUNK]
    return mean.numpy(), basis.numpy()


def save(folder: str, sketch: Sketch, notes: dict[str, Any]) -> artifact.Card:
    """Publish a fitted sketch into a begun artifact: one part, the mean and then the directions; the codec in the
    card."""
    rows = np.vstack([sketch.mean[None], sketch.basis]).astype("<f4")
    column = pa.Array.from_buffers(pa.binary(4 * rows.shape[1]), len(rows), [None, pa.py_buffer(rows)])
    artifact.publish_part(folder, 0, pa.table({"vector": column}))
    return artifact.finish(folder, [0], {**notes, "codec": asdict(sketch.codec)})


def load(folder: str) -> tuple[Sketch, artifact.Card]:
    """Raises ValueError where it is not finished, damaged, or of another kind."""
    card = artifact.load_card(folder, "sketch")
    column = artifact.read_part(folder, 0)["vector"].combine_chunks()
    rows = np.frombuffer(column.buffers()[1], "<f4").reshape(len(column), -1).copy()
    return Sketch(rows[0], rows[1:], codec_of(card["notes"])), card


def check(folder: str, inputs: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Add the sketch of `folder` to a description's inputs; returns what the card notes of it.

    Raises:
        ValueError: it was fitted to other weights, layers or pictures prepared otherwise.
    """
    card = artifact.load_card(folder, "sketch")
    wanted = {"weights": inputs["weights"], **{name: options[name] for name in _SAME if name in options}}
    for name, value in json.loads(json.dumps(wanted)).items():
        if (there := card["inputs"]["described"][name]) != value:
            raise ValueError(f"--sketch {folder} was fitted with {name} {there}, this describes with {value}")
    inputs["sketch"] = card["content"]
    return {"codec": card["notes"]["codec"]}


_SAME = ("net", "layers", "layer_weights", "preprocessing", "pooling")
"""Options that vectors must share to be compared with each other; size and precision may differ."""


def origin(described: artifact.Card) -> dict[str, Any]:
    """What a sketch's request says of the descriptors that it is fitted to."""
    names = {name: described["options"].get(name) for name in _SAME}
    return {"descriptors": described["content"], "described": {"weights": described["inputs"].get("weights"), **names}}
