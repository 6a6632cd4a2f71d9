"""Style vectors -> small codes whose distances stand for the vectors' own.

A style vector has tens to hundreds of thousands of numbers; a million of them fill a terabyte. A sketch keeps its
coordinates p in a few hundred directions and the norm r of what that leaves out:

- `pca`: the principal directions of a sample of rows, by its n x n matrix of inner products (the dual problem; D x D
  would be 7 GB for VGG-19 to relu3_1). Gram spectra are steep, so few directions hold nearly all of the variance.
- `projection`: seeded Gaussian directions (Johnson, Lindenstrauss 1984); nothing is fitted, any data will do.

Codes. x - mean = g u with |u| = 1: the gain g is kept on a logarithmic scale, as neighbours of a row far from the mean
are far from each other too, and may be told apart as coarsely. The coordinates of u are rounded as asinh(u / s), s
their deviation: as finely as their middle needs and without cutting off outliers. Each coordinate has bits by its
variance, one after the other to the one whose error is the largest (Gersho, Gray, "Vector Quantization and Signal
Compression", 1992, section 8.3: each bit takes 3/4 of a coordinate's squared error).

Distances. With v the decoded vector and r = |x - mean - v|, what was left out included,

    d^2(a, b) ~ |v_a - v_b|^2 + r_a^2 + r_b^2 - 2 c r_a r_b,

c the cosine between two rows' rests: 0 for unrelated ones, more for neighbours. That is a squared Euclidean distance
again: of v with sqrt(c) r beside it, and one coordinate more, sqrt(1 - c) r, that each row has to itself
(`Vectors.private`). A projection is unbiased without its rest: r is 0.
"""

from __future__ import annotations

import heapq
import json
import tempfile
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import torch

from pipeline import artifacts

Array = np.ndarray
VERSION = 1
"""Of the algorithm; part of the request."""
MOST_BITS = 12
"""Of one coordinate."""
OCTAVES = 16
"""Gain and rest are kept from 2^-16 to 2^16 times the sample's mean gain, in steps of 1/2048 octave."""
COSINE = 0.5
"""c: on held-out real pictures 0.3, 0.5 and 0.7 hardly differ; 0 and 1 are worse (README)."""
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
class Codec:
    """Coordinates -> bytes -> coordinates."""

    bits: tuple[int, ...]
    """Of each coordinate of u."""
    scales: tuple[float, ...]
    """s: deviation of each coordinate of u."""
    limits: tuple[float, ...]
    """Largest asinh(u / s) that is kept."""
    gain: float
    """The sample's mean |x - mean|."""
    cosine: float
    """c; a projection has 1 and no rest."""

    @property
    def bytes(self) -> int:
        return 4 + -(-sum(self.bits) // 8)

    @property
    def dimension(self) -> int:
        """Of a decoded vector, sqrt(c) r included."""
        return len(self.bits) + 1

    @cached_property
    def _places(self) -> Array:
        """Where the code's bits stand among 16 a coordinate."""
        return np.concatenate([16 * i + np.arange(16 - b, 16) for i, b in enumerate(self.bits)]).astype(np.int64)

    @cached_property
    def _levels(self) -> tuple[Array, Array]:
        """(values of u of all coordinates one after the other: float32, first place of each: int64)."""
        tables = []
        for b, scale, limit in zip(self.bits, self.scales, self.limits, strict=True):
            middles = (np.arange(2**b) + 0.5) * (2 * limit / 2**b) - limit
            tables.append(scale * np.sinh(middles))
        starts = np.cumsum([0, *(2**b for b in self.bits)])[:-1]
        return np.concatenate(tables).astype(np.float32), starts

    def _log(self, values: Array) -> Array:
        """float64 n -> uint16 codes; 0: nothing."""
        with np.errstate(divide="ignore"):
            steps = (np.log2(values / self.gain) + OCTAVES) * 2048
        return np.where(values > 0, np.clip(np.rint(steps), 1, 65535), 0).astype("<u2")

    def _exp(self, codes: Array) -> Array:
        values = self.gain * np.exp2(codes.astype(np.float64) / 2048 - OCTAVES)
        return np.where(codes > 0, values, 0.0)

    def encode(self, p: Array, norms: Array) -> Array:
        """Coordinates float32 n K and norms |x - mean| float64 n -> codes uint8 n bytes."""
        n = len(p)
        gain = self._log(norms)
        with np.errstate(divide="ignore", invalid="ignore"):
            u = np.nan_to_num(p / self._exp(gain)[:, None]).astype(np.float32)
        limits, levels = np.array(self.limits), 2.0 ** np.array(self.bits)
        place = (np.arcsinh(u / np.array(self.scales)) + limits) * (levels / (2 * limits))
        codes = np.clip(np.floor(place), 0, levels - 1).astype(">u2")
        packed = np.packbits(np.unpackbits(codes.view(np.uint8), axis=1)[:, self._places], axis=1)
        rest = np.zeros(n, "<u2")
        if self.cosine < 1:
            v = self._vectors(codes.astype(np.int64), gain).astype(np.float64)
            p = p.astype(np.float64)
            left = norms**2 - np.einsum("nk,nk->n", p, p)  # outside of the directions; rounding may make it negative
            rest = self._log(np.sqrt(np.maximum(left, 0) + ((p - v) ** 2).sum(1)))
        return np.hstack([gain[:, None].view(np.uint8), rest[:, None].view(np.uint8), packed])

    def _vectors(self, codes: Array, gain: Array) -> Array:
        values, starts = self._levels
        v: Array = values[codes + starts]
        v *= self._exp(gain)[:, None].astype(np.float32)
        return v

    def rests(self, codes: Array) -> Array:
        """r, float64 n."""
        return self._exp(np.ascontiguousarray(codes[:, 2:4]).view("<u2")[:, 0])

    def decode(self, codes: Array, out: Array | None = None) -> Array:
        """uint8 n bytes -> float32 n dimension, into the first rows of `out` if given."""
        n, k = len(codes), len(self.bits)
        out = np.empty((n, k + 1), np.float32) if out is None else out[:n]
        for start in range(0, n, 1024):  # 16 bits a coordinate are spread out for so many rows
            some = codes[start : start + 1024]
            spread = np.zeros((len(some), 16 * k), np.uint8)
            spread[:, self._places] = np.unpackbits(some[:, 4:], axis=1)[:, : len(self._places)]
            places = np.packbits(spread, axis=1).view(">u2").astype(np.int64)
            gain = np.ascontiguousarray(some[:, :2]).view("<u2")[:, 0]
            out[start : start + len(some), :k] = self._vectors(places, gain)
        out[:, k] = self.cosine**0.5 * self.rests(codes)
        return out

    def private(self, codes: Array) -> Array:
        """(1 - c) r^2, float64 n: the square of the coordinate that each row has to itself."""
        private: Array = (1 - self.cosine) * self.rests(codes) ** 2
        return private


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
        centred = torch.from_numpy(x) - torch.from_numpy(self.mean)
        norms = torch.linalg.vector_norm(centred, dim=1, dtype=torch.float64)
        return (centred @ torch.from_numpy(self.basis).T).numpy(), norms.numpy()

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


class Rows(Protocol):
    """What a sketch is fitted to: `descriptors.Vectors`, or an array in such clothes."""

    dimension: int

    def __len__(self) -> int: ...

    def rows(self, start: int, stop: int) -> tuple[Array, Array]:
        """(float32 n D, valid bool n)."""
        ...


def fit(rows: Rows, valid: Array, options: SketchOptions) -> tuple[Sketch, dict[str, Any]]:
    """Fit a sketch to some of the rows, `valid` (bool N) ones; returns it and what is worth noting.

    Raises:
        ValueError: fewer than 16 rows, or rows that are all equal.
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
        raise ValueError(f"--descriptors: {len(there)} described images; a sketch is fitted to at least 16")
    return np.random.default_rng(options.seed).permutation(there)[: options.rows]


def principal(rows: Rows, valid: Array, options: SketchOptions) -> Fitted:
    """The principal directions that `options` ask for, of some of the `valid` (bool N) rows; a fourth of those is held
    out, for the codecs. One fit serves sketches of fewer bytes, too (`Fitted.sketch`)."""
    chosen = _choose(valid, options)
    held_out = len(chosen) // 4
    directions = len(chosen) - held_out - 1
    k = min(options.components or 8 * (options.bytes - 4) // 4, directions, rows.dimension)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/sample"
        _copy(rows, chosen, path)
        shape = (len(chosen), rows.dimension)
        mean, basis = _principal(path, shape, len(chosen) - held_out, k)
        x = np.memmap(path, np.float32, "r", shape=shape)[len(chosen) - held_out :]
        parts = [Sketch(mean, basis, _EMPTY).coordinates(np.array(part)) for part in _runs(x, 256)]
        del x
    if not all(np.isfinite(norms).all() for _, norms in parts):
        raise ValueError("--descriptors: a vector is not finite; describe the images again")
    p, norms = (np.concatenate(column) for column in zip(*parts, strict=True))
    u = p / np.maximum(norms, np.finfo(np.float64).tiny)[:, None]
    kept = (p.astype(np.float64) ** 2).sum() / (norms**2).sum()  # of rows that were not fitted on
    notes = {"fitted": len(chosen) - held_out, "held_out": held_out, "variance_kept_held_out": float(kept)}
    return Fitted(mean, basis, u, float(norms.mean()), notes)


def _runs(x: Array, size: int) -> list[Array]:
    return [x[start : start + size] for start in range(0, len(x), size)]


def _gaussian(k: int, dimension: int, seed: int) -> Array:
    generator = torch.Generator().manual_seed(seed)
    basis: Array = (torch.randn(k, dimension, generator=generator) / k**0.5).numpy()
    return basis


def codec_for(u: Array, gain: float, bits: int, cosine: float) -> Codec:
    """A codec for coordinates of unit vectors with the statistics of u (n K), and so many bits together."""
    deviations = np.maximum(u.std(0), 1e-9)
    limits = np.maximum(np.arcsinh(1.3 * np.abs(u).max(0) / deviations), 1.0)
    allotted = allot(deviations**2, bits)
    return Codec(tuple(allotted.tolist()), tuple(deviations.tolist()), tuple(limits.tolist()), gain, cosine)


def _codec_of_projection(rows: Rows, chosen: Array, basis: Array, bits: int) -> Codec:
    """A unit vector's coordinates in random directions have one known deviation; only the gain's range is looked up."""
    k = len(basis)
    x = np.concatenate([rows.rows(int(i), int(i) + 1)[0] for i in np.sort(chosen)])
    gain = float(np.linalg.norm(x @ basis.T, axis=1).mean())
    if not gain > 0:
        raise ValueError("--descriptors: the sampled images all have the descriptor 0")
    each = min(MOST_BITS, bits // k)
    return Codec((each,) * k, (k**-0.5,) * k, (float(np.arcsinh(6.0)),) * k, gain, 1.0)


def allot(variances: Array, bits: int) -> Array:
    """Bits of each coordinate, int64 K: each to the one with the largest expected squared error."""
    found = np.zeros(len(variances), np.int64)
    errors = [(-float(v), i) for i, v in enumerate(variances)]
    heapq.heapify(errors)
    for _ in range(min(bits, MOST_BITS * len(variances))):
        error, i = heapq.heappop(errors)
        found[i] += 1
        if found[i] < MOST_BITS:
            # Lloyd and Max's one bit leaves 0.363 of a normal variable's variance, each further one about a quarter.
            heapq.heappush(errors, (error * (0.363 if found[i] == 1 else 0.25), i))
    return found


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
    values, vectors = torch.linalg.eigh(inner)
    if not values[-1] > 1e-12 * fitted * float(mean.double().square().sum()):
        raise ValueError("--descriptors: the sampled images all have the same descriptor; nothing can be told apart")
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


_EMPTY = Codec((), (), (), 1.0, COSINE)


def save(folder: str, sketch: Sketch, notes: dict[str, Any]) -> artifacts.Card:
    """Publish a fitted sketch into a begun artifact: one part, the mean and then the directions; the codec in the
    card."""
    rows = np.vstack([sketch.mean[None], sketch.basis]).astype("<f4")
    column = pa.Array.from_buffers(pa.binary(4 * rows.shape[1]), len(rows), [None, pa.py_buffer(rows)])
    artifacts.publish_part(folder, 0, pa.table({"vector": column}))
    return artifacts.finish(folder, [0], {**notes, "codec": asdict(sketch.codec)})


def load(folder: str) -> tuple[Sketch, artifacts.Card]:
    """Raises ValueError where it is not finished, damaged, or of another kind."""
    card = artifacts.load_card(folder, "sketch")
    try:
        column = artifacts.read_part(folder, 0)["vector"].combine_chunks()
    except OSError as error:
        raise ValueError(f"{folder} is damaged ({error}): remove it and run jobs.sketch again") from error
    rows = np.frombuffer(column.buffers()[1], "<f4").reshape(len(column), -1).copy()
    return Sketch(rows[0], rows[1:], codec_of(card["notes"])), card


def codec_of(notes: dict[str, Any]) -> Codec:
    """From a card's notes."""
    found = notes["codec"]
    bits, scales, limits = (tuple(found[name]) for name in ("bits", "scales", "limits"))
    return Codec(bits, scales, limits, found["gain"], found["cosine"])


def check(folder: str, inputs: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Add the sketch of `folder` to a description's inputs; returns what the card notes of it.

    Raises:
        ValueError: it was fitted to other weights, layers or pictures prepared otherwise.
    """
    card = artifacts.load_card(folder, "sketch")
    wanted = {"weights": inputs["weights"], **{name: options[name] for name in _SAME if name in options}}
    for name, value in json.loads(json.dumps(wanted)).items():
        if (there := card["inputs"]["described"][name]) != value:
            raise ValueError(f"--sketch {folder} was fitted with {name} {there}, this describes with {value}")
    inputs["sketch"] = card["content"]
    return {"codec": card["notes"]["codec"]}


_SAME = ("net", "layers", "layer_weights", "preprocessing", "pooling")
"""Options that vectors must share to be compared with each other; size and precision may differ."""


def origin(described: artifacts.Card) -> dict[str, Any]:
    """What a sketch's request says of the descriptors that it is fitted to."""
    names = {name: described["options"].get(name) for name in _SAME}
    return {"descriptors": described["content"], "described": {"weights": described["inputs"].get("weights"), **names}}
