"""Images -> VGG-Gram style descriptors, shard by shard.

The style distance of StEP (Meshry et al., CVPR 2021; after Gatys et al., CVPR 2016),

    d(i, j) = sum_l w_l mean over C_l x C_l of (G_l^i - G_l^j)^2,    G_l = F F^T / (C_l H_l W_l),

is the squared Euclidean distance of one vector per image: for each layer the upper triangle of G_l, entries off the
diagonal times sqrt 2 (they stand for two), times sqrt(w_l) / C_l.

A descriptor artifact has one part a shard with the columns `key`, `vector` (float32, little-endian, as fixed-size
binary: three times as fast to read as a list column; `Vectors` gives it as an array) and `error`: an image that cannot
be described has a null vector and its reason there. With a fitted sketch (pipeline.sketches) `vector` is its code, and
`Vectors` gives what it decodes to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain, islice, pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from models.common import vgg
from pipeline import artifacts, sketches
from pipeline.shards import Damaged, DataSet
from pipeline.weights import Weights as Weights
from pipeline.weights import load_weights as load_weights

VERSION = 1
"""Of the algorithm; part of the request."""
GROUP_BYTES = 16 << 20
"""Row groups of a part hold about so many bytes of vectors."""
MAX_PIXELS = 2048 * 2048
"""A larger image is described only with a size to shrink it to: activations take 256 bytes a pixel and layer."""

STEP_LAYERS = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")
"""After StEP's released code: conv1_2 ... conv5_2, all with weight 1."""


@dataclass(frozen=True)
class DescribeOptions:
    """All that the numbers depend on beside weights and data set."""

    net: vgg.Name = "vgg16"
    layers: tuple[str, ...] = STEP_LAYERS
    layer_weights: tuple[float, ...] = ()
    """One per layer; empty: all 1."""
    preprocessing: vgg.Preprocessing = "imagenet"
    pooling: vgg.Pooling = "max"
    field: str = "target"
    size: int = 0
    """Shortest side after a bicubic resize, then the centre square of it; 0: images as they are (Grams are means over
    positions, so images of different sizes can be compared)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the network; Grams are always summed in float32."""
    batch: int = 16
    """Images per forward; hashed, as the last bits depend on it."""

    def __post_init__(self) -> None:
        # On the command line the layers may be one word: relu1_2,relu2_2
        object.__setattr__(self, "layers", tuple(name for word in self.layers for name in word.split(",")))
        if self.layer_weights and len(self.layer_weights) != len(self.layers):
            raise ValueError(f"--layer-weights: {len(self.layer_weights)} values for {len(self.layers)} layers")
        if any(not 0 < w < float("inf") for w in self.layer_weights):
            raise ValueError(f"--layer-weights {self.layer_weights}: give positive numbers, leave out unwanted layers")
        if self.batch < 1 or self.size < 0:
            raise ValueError(f"--batch {self.batch}, --size {self.size}: at least 1 and 0")


class Describer:
    """Images -> style vectors, with one network."""

    def __init__(self, net: vgg.VGG, weights: tuple[float, ...] = (), precision: str = "fp32") -> None:
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        # Channels last is faster on the CPU in both precisions, most of all in bfloat16.
        self.net = net.eval()
        self.net.features.to(self.dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.places: list[Tensor] = []  # per layer, int64: flat positions of the upper triangle
        self.scales: list[Tensor] = []
        for layer, weight in zip(net.layers, weights or (1.0,) * len(net.layers), strict=True):
            c = vgg.channels(net.name, layer)
            rows, columns = torch.triu_indices(c, c)
            scale = torch.where(rows == columns, 1.0, 2.0).double().sqrt() * weight**0.5 / c
            self.places.append(rows * c + columns)
            self.scales.append(scale.float())
        self.dimension = sum(len(p) for p in self.places)
        self.least = 2 ** max(int(layer[4]) - 1 for layer in net.layers)
        """Smallest side that the deepest layer can be computed of."""

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """RGB in [-1, 1] -> float32 vectors whose squared Euclidean distance is the style distance."""
        x = x.contiguous(memory_format=torch.channels_last)
        out = torch.empty(len(x), self.dimension, device=x.device)
        start = 0
        for f, places, scales in zip(self.net(x).values(), self.places, self.scales, strict=True):
            g = vgg.gram(f.float()).flatten(1)  # B C*C
            stop = start + len(places)
            torch.mul(g[:, places.to(x.device)], scales.to(x.device), out=out[:, start:stop])
            start = stop
        return out


def prepare(image: np.ndarray, size: int, least: int) -> np.ndarray:
    """uint8 H W 3, resized and cropped as `DescribeOptions.size` says.

    Raises:
        ValueError: too small for the deepest layer, or too large to be taken as it is.
    """
    h, w = image.shape[:2]
    if size:
        scale = size / min(h, w)
        new = (max(size, round(w * scale)), max(size, round(h * scale)))
        if new != (w, h):
            image = np.asarray(Image.fromarray(image).resize(new, Image.Resampling.BICUBIC))
        top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
        image = image[top : top + size, left : left + size]
    h, w = image.shape[:2]
    if min(h, w) < least:
        raise ValueError(f"{w} x {h} pixels: the deepest layer needs sides of {least} (--size can enlarge)")
    if h * w > MAX_PIXELS:
        raise ValueError(f"{w} x {h} pixels: more than {MAX_PIXELS}; shrink with --size")
    return image


def to_tensor(images: Sequence[np.ndarray]) -> Float[Tensor, "B 3 H W"]:
    """uint8 H W 3 images of one size -> float32 in [-1, 1]."""
    # NumPy, not torch: on a thread that prepares batches, torch would start OpenMP threads beside the training's.
    out = np.empty((len(images), 3, *images[0].shape[:2]), np.float32)
    for place, image in zip(out, images, strict=True):
        np.divide(image.transpose(2, 0, 1), np.float32(127.5), out=place)
    out -= np.float32(1)
    return torch.from_numpy(out)


def _vectors(
    data: DataSet, shard: int, describer: Describer, options: DescribeOptions, seconds: dict[str, float]
) -> Iterator[tuple[str, np.ndarray | None, str]]:
    """(key, vector or None, reason) of the shard's images in order. A batch is a run of images of equal size."""

    def describe() -> Iterator[tuple[str, np.ndarray | None, str]]:
        if not waiting:
            return
        began = time.perf_counter()
        found = describer(to_tensor([image for _, image in waiting])).numpy()
        seconds["computing"] += time.perf_counter() - began
        if not np.isfinite(found).all():
            raise ValueError(f"--weights: style vectors from sample {waiting[0][0]} on are not finite")
        for (key, _), vector in zip(waiting, found, strict=True):
            yield key, vector, ""
        waiting.clear()

    waiting: list[tuple[str, np.ndarray]] = []
    for i in data.shard_rows(shard):
        began = time.perf_counter()
        image, reason = None, ""
        try:
            image = prepare(data.image(i, options.field), options.size, describer.least)
        except Damaged:
            raise
        except ValueError as error:
            reason = str(error)
        seconds["reading"] += time.perf_counter() - began
        full = len(waiting) == options.batch
        if waiting and (image is None or full or image.shape != waiting[0][1].shape or _crowded(waiting, options)):
            yield from describe()
        if image is None:
            yield data.keys[i], None, reason
        else:
            waiting.append((data.keys[i], image))
    yield from describe()


def _crowded(waiting: list[tuple[str, np.ndarray]], options: DescribeOptions) -> bool:
    """Whether one more image would pass the pixels of a full batch of 256 x 256: memory is bounded by pixels."""
    h, w = waiting[0][1].shape[:2]
    return bool((len(waiting) + 1) * h * w > options.batch * 256 * 256)


def schema(dimension: int, kind: str = "<f4") -> pa.Schema:
    """`kind`: of the stored numbers; codes are `uint8`."""
    fields = [("key", pa.string()), ("vector", pa.binary(_bytes(dimension, kind))), ("error", pa.string())]
    text = f"float32[{dimension}], little-endian" if kind == "<f4" else f"sketch of {dimension} bytes"
    return pa.schema(fields, metadata={"vector": text})


def _bytes(dimension: int, kind: str) -> int:
    return dimension * np.dtype(kind).itemsize


def group_rows(dimension: int, kind: str = "<f4") -> int:
    """Rows of one row group; a byte of a code becomes some eight when it is decoded."""
    return max(1, GROUP_BYTES // (_bytes(dimension, kind) * (8 if kind == "uint8" else 1)))


def groups(rows: Iterator[tuple[str, np.ndarray | None, str]], dimension: int, kind: str = "<f4") -> Iterator[pa.Table]:
    """Tables of one row group each. Vectors are gathered in the memory that the table and the writer then use."""
    size = group_rows(dimension, kind)
    while held := list(islice(rows, 1)):
        vectors = np.zeros((size, dimension), kind)
        keys: list[str] = []
        errors: list[str | None] = []
        for key, vector, reason in chain(held, islice(rows, size - 1)):
            if vector is not None:
                vectors[len(keys)] = vector
            keys.append(key)
            errors.append(reason or None)
        valid = np.packbits([error is None for error in errors], bitorder="little")
        buffers = [pa.py_buffer(valid), pa.py_buffer(vectors)]
        column = pa.Array.from_buffers(pa.binary(_bytes(dimension, kind)), len(keys), buffers)
        yield pa.table([pa.array(keys), column, pa.array(errors, pa.string())], schema=schema(dimension, kind))


def sketched(
    rows: Iterator[tuple[str, np.ndarray | None, str]], sketch: sketches.Sketch
) -> Iterator[tuple[str, np.ndarray | None, str]]:
    """The same with codes for vectors. Some are coded together, as the directions are much to read for each."""
    while held := list(islice(rows, group_rows(sketch.basis.shape[1]))):
        vectors = [vector for _, vector, _ in held if vector is not None]
        codes = iter(sketch(np.stack(vectors)) if vectors else ())
        for key, vector, reason in held:
            yield key, None if vector is None else next(codes), reason


def make(
    root: str, split: str, folder: str, options: DescribeOptions, net: vgg.VGG, sketch_folder: str = ""
) -> Callable[[int], dict[str, Any]]:
    """For `workers.each`: describe one shard, publish its part, return counts and seconds."""
    data = DataSet(root, split)
    describer = Describer(net, options.layer_weights, options.precision)
    sketch = sketches.load(sketch_folder)[0] if sketch_folder else None
    form = (describer.dimension, "<f4") if sketch is None else (sketch.codec.bytes, "uint8")

    def work(shard: int) -> dict[str, Any]:
        began = time.perf_counter()
        seconds = {"reading": 0.0, "computing": 0.0}
        rows = _vectors(data, shard, describer, options, seconds)
        rows = rows if sketch is None else sketched(rows, sketch)
        artifacts.publish_rows(folder, shard, schema(*form), groups(rows, *form))
        spent = time.perf_counter() - began
        writing = spent - sum(seconds.values())
        return {"part": shard, "images": len(data.shard_rows(shard)), "seconds": spent, **seconds, "writing": writing}

    return work


def _arrays(table: pa.Table) -> tuple[list[str], np.ndarray, np.ndarray]:
    """(keys, stored bytes uint8 n W, valid bool n)."""
    chunks = table["vector"]
    column = chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()  # which would copy one as well
    width = column.type.byte_width
    flat = np.frombuffer(column.buffers()[1], np.uint8, len(column) * width, column.offset * width)
    valid = np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    return table["key"].to_pylist(), flat.reshape(len(column), width), valid


class Vectors:
    """The rows of a finished artifact in key order (all parts one after the other), read a run at a time.

    Raises:
        ValueError: a part is missing, cut short or damaged.
    """

    def __init__(self, folder: str) -> None:
        card = artifacts.load_card(folder, "descriptors")
        self.folder = folder
        self.part_rows: list[int] = []
        self._groups: list[tuple[int, int, int]] = []  # first row, part, row group
        self._files = []
        self._again: dict[int, Any] = {}  # the same files, read without comparing checksums
        self._sound: set[tuple[int, int]] = set()  # (part, row group) whose checksums were compared once
        for part in range(card["parts"]):
            file = artifacts.open_part(folder, part)
            self._files.append(file)
            start = sum(self.part_rows)
            for group in range(file.num_row_groups):
                self._groups.append((start, part, group))
                start += file.metadata.row_group(group).num_rows
            self.part_rows.append(file.metadata.num_rows)
        self._starts = np.array([first for first, _, _ in self._groups])
        width = self._files[0].schema_arrow.field("vector").type.byte_width
        self.codec = sketches.codec_of(card["notes"]) if "codec" in card["notes"] else None
        self.bytes: int = width
        """Of an image, as stored."""
        self.dimension: int = self.codec.dimension if self.codec else width // 4

    def __len__(self) -> int:
        return sum(self.part_rows)

    def groups(self, part: int) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
        """(keys, float32 n D, valid bool n) of each row group of a part; invalid rows hold any numbers."""
        for _, p, group in self._groups:
            if p == part:
                yield self._group(part, group)

    @cached_property
    def valid(self) -> np.ndarray:
        """bool N: rows with a vector, which are those without an error; the vectors are not read for it."""
        found = [np.empty(0, bool)]
        for part, file in enumerate(self._files):
            with self._reading(part):
                column = file.read(columns=["error"], use_threads=False)["error"].combine_chunks()
            found.append(np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=bool))
        return np.concatenate(found)

    @cached_property
    def private(self) -> np.ndarray:
        """float64 N: what a row adds to its squared distance to any other (a sketch's rest; 0 for exact vectors)."""
        found = np.zeros(len(self))
        if self.codec is not None:
            for start, part, group in self._groups:
                _, codes, valid = self._stored(part, group)
                found[start : start + len(codes)] = np.where(valid, self.codec.private(codes), 0.0)
        return found

    def _group(self, part: int, group: int) -> tuple[list[str], np.ndarray, np.ndarray]:
        keys, stored, valid = self._stored(part, group)
        return keys, stored.view("<f4") if self.codec is None else self.codec.decode(stored), valid

    def _stored(self, part: int, group: int) -> tuple[list[str], np.ndarray, np.ndarray]:
        with self._reading(part):
            if (part, group) in self._sound:  # comparing checksums is a third of reading what the page cache holds
                return _arrays(self._unchecked(part).read_row_group(group, use_threads=False))
            read = _arrays(self._files[part].read_row_group(group, use_threads=False))
            self._sound.add((part, group))
            return read

    @contextmanager
    def _reading(self, part: int) -> Iterator[None]:
        """Names a part that turns out to be damaged."""
        try:
            yield
        except (OSError, pa.ArrowInvalid) as error:
            name = f"{self.folder}/{artifacts.part_name(part)}"
            raise ValueError(
                f"{name}.parquet: {error}; remove it, its .json and card.json, run jobs.describe again"
            ) from error

    def _unchecked(self, part: int) -> Any:
        if part not in self._again:
            self._again[part] = artifacts.open_part(self.folder, part, check=False)
        return self._again[part]

    def rows(self, start: int, stop: int, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Rows `start` to `stop` as (float32 n D, valid bool n), into the first rows of `out` if given; invalid: 0."""
        out = np.empty((stop - start, self.dimension), np.float32) if out is None else out[: stop - start]
        valid = np.empty(stop - start, bool)
        for number in range(int(np.searchsorted(self._starts, start, "right")) - 1, len(self._groups)):
            first, part, group = self._groups[number]
            if first >= stop:
                break
            _, vectors, good = self._group(part, group)
            a, b = max(start, first), min(stop, first + len(good))
            out[a - start : b - start] = vectors[a - first : b - first]
            valid[a - start : b - start] = good[a - first : b - first]
        out[~valid] = 0
        return out, valid

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """(first, last + 1) of the rows of each row group that holds any: what is read at once at least."""
        starts = [*self._starts.tolist(), len(self)]
        return [(a, b) for a, b in pairwise(starts) if b > a]

    def runs(self, rows: np.ndarray) -> Iterator[tuple[slice, int, int]]:
        """Ascending `rows` -> (those of one row group, its first row, its last row + 1), without groups that hold
        none: a reader of scattered rows reads each group once."""
        for start, stop in self.bounds:
            a, b = np.searchsorted(rows, (start, stop)).tolist()
            if b > a:
                yield slice(a, b), start, stop

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The given ascending rows as (float32 n D, valid bool n); invalid: 0."""
        out, valid = np.empty((len(rows), self.dimension), np.float32), np.empty(len(rows), bool)
        for run, start, stop in self.runs(rows):
            x, good = self.rows(start, stop)
            out[run], valid[run] = x[rows[run] - start], good[rows[run] - start]
        return out, valid


def code(source: str, folder: str, sketch_folder: str) -> Callable[[int], dict[str, Any]]:
    """For `workers.each`: code the exact vectors of one part of `source`, publish it in `folder`."""
    vectors, (sketch, _) = Vectors(source), sketches.load(sketch_folder)
    form = (sketch.codec.bytes, "uint8")

    def work(part: int) -> dict[str, Any]:
        began = time.perf_counter()
        errors = dict(bad_rows(source, range(part, part + 1)))
        rows = (
            (key, vector if good else None, errors.get(key, ""))
            for keys, some, valid in vectors.groups(part)
            for key, vector, good in zip(keys, some, valid, strict=True)
        )
        artifacts.publish_rows(folder, part, schema(*form), groups(sketched(rows, sketch), *form))
        return {"part": part, "images": vectors.part_rows[part], "seconds": time.perf_counter() - began}

    return work


def bad_rows(folder: str, parts: range) -> list[tuple[str, str]]:
    """(key, reason) of all images without a vector."""
    found: list[tuple[str, str]] = []
    for part in parts:
        table = artifacts.open_part(folder, part).read(columns=["key", "error"])
        found += [(k, e) for k, e in zip(*table.to_pydict().values(), strict=True) if e is not None]
    return found


def request(data: DataSet, weights: str, options: DescribeOptions) -> tuple[dict[str, Any], dict[str, Any]]:
    """The artifact's inputs and options."""
    inputs = {"dataset": data.fingerprint, "split": data.split, "field": options.field, "weights": weights}
    return inputs, {k: v for k, v in asdict(options).items() if k != "field"}


def check(card: artifacts.Card, data: DataSet, folder: str) -> None:
    """Raises ValueError where the descriptors are of another data set or split."""
    for what, wanted in (("dataset", data.fingerprint), ("split", data.split)):
        if card["inputs"][what] != wanted:
            raise ValueError(
                f"--descriptors {folder} are of another {what} ({card['inputs'][what]}) than {data.root} ({wanted}): "
                "run jobs.describe on this one"
            )
