"""The rows of a descriptor artifact: how they are stored, written and read.

One part a shard with the columns `key`, `vector` (float32, little-endian, as fixed-size binary: three times as fast to
read as a list column) and `error`: an image that cannot be described has a null vector and its reason there. With a
fitted sketch (pipeline.sketches) `vector` is its code, and `Vectors` gives what it decodes to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.artifacts import artifact
from pipeline.style.codec import codec_of

Array = np.ndarray

GROUP_BYTES = 16 << 20
"""Row groups of a part hold about so many bytes of vectors."""
OPEN = 64
"""Files that are kept open."""


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


def groups(rows: Iterator[tuple[str, Array | None, str]], dimension: int, kind: str = "<f4") -> Iterator[pa.Table]:
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


def _stored(table: pa.Table) -> tuple[Array, Array]:
    """(stored bytes uint8 n W, valid bool n)."""
    chunks = table["vector"]
    column = chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()  # which would copy one as well
    width = column.type.byte_width
    flat = np.frombuffer(column.buffers()[1], np.uint8, len(column) * width, column.offset * width)
    valid = np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    return flat.reshape(len(column), width), valid


class Vectors:
    """The rows of a finished artifact in key order (all parts one after the other), read a run at a time.

    Raises:
        ValueError: a part is missing, cut short or damaged.
    """

    def __init__(self, folder: str) -> None:
        card = artifact.load_card(folder, "descriptors")
        self.folder = folder
        self.part_rows: list[int] = []
        self._groups: list[tuple[int, int, int]] = []  # first row, part, row group
        self._footers: list[Any] = []
        self._open: dict[tuple[int, bool], Any] = {}  # files by (part, whether checksums are compared), last used last
        self._sound: set[tuple[int, int]] = set()  # (part, row group) whose checksums were compared once
        width = 0
        for part in range(card["parts"]):
            file = artifact.open_part(folder, part)
            self._footers.append(file.metadata)
            start = sum(self.part_rows)
            for group in range(file.num_row_groups):
                self._groups.append((start, part, group))
                start += file.metadata.row_group(group).num_rows
            self.part_rows.append(file.metadata.num_rows)
            width = file.schema_arrow.field("vector").type.byte_width
        self._starts = np.array([first for first, _, _ in self._groups])
        self.codec = codec_of(card["notes"]) if "codec" in card["notes"] else None
        self.bytes: int = width
        """Of an image, as stored."""
        self.dimension: int = self.codec.dimension if self.codec else width // 4

    def __len__(self) -> int:
        return sum(self.part_rows)

    def groups(self, part: int) -> Iterator[tuple[list[str], Array, Array]]:
        """(keys, float32 n D, valid bool n) of each row group of a part; invalid rows hold any numbers."""
        for _, p, group in self._groups:
            if p == part:
                table = self._read(part, group, ["key", "vector"])
                yield table["key"].to_pylist(), *self._decoded(table)

    @cached_property
    def valid(self) -> Array:
        """bool N: rows with a vector, which are those without an error; the vectors are not read for it."""
        found = [np.empty(0, bool)]
        for part in range(len(self.part_rows)):
            with self._reading(part):
                column = self._file(part).read(columns=["error"], use_threads=False)["error"].combine_chunks()
            found.append(np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=bool))
        return np.concatenate(found)

    @cached_property
    def private(self) -> Array:
        """float64 N: what a row adds to its squared distance to any other (a sketch's rest; 0 for exact vectors)."""
        found = np.zeros(len(self))
        if self.codec is not None:
            for start, part, group in self._groups:
                codes, valid = _stored(self._read(part, group))
                found[start : start + len(codes)] = np.where(valid, self.codec.private(codes), 0.0)
        return found

    def _decoded(self, table: pa.Table) -> tuple[Array, Array]:
        """(float32 n D, valid bool n)."""
        stored, valid = _stored(table)
        return stored.view("<f4") if self.codec is None else self.codec.decode(stored), valid

    def _read(self, part: int, group: int, columns: list[str] | None = None) -> pa.Table:
        """A row group; checksums are compared once, as that is a third of reading what the page cache holds."""
        with self._reading(part):
            file = self._file(part, check=(part, group) not in self._sound)
            table = file.read_row_group(group, columns or ["vector"], use_threads=False)
            self._sound.add((part, group))
            return table

    @contextmanager
    def _reading(self, part: int) -> Iterator[None]:
        """Names a part that turns out to be damaged."""
        try:
            yield
        except (OSError, pa.ArrowInvalid) as error:
            name = f"{self.folder}/{artifact.part_name(part)}"
            raise ValueError(
                f"{name}.parquet: {error}; remove it, its .json and card.json, run jobs.describe again"
            ) from error

    def _file(self, part: int, check: bool = True) -> Any:
        file = self._open.pop((part, check), None) or artifact.open_part(self.folder, part, check, self._footers[part])
        self._open[part, check] = file
        if len(self._open) > OPEN:
            self._open.pop(next(iter(self._open))).close()
        return file

    def rows(self, start: int, stop: int, out: Array | None = None) -> tuple[Array, Array]:
        """Rows `start` to `stop` as (float32 n D, valid bool n), into the first rows of `out` if given; invalid: 0."""
        out = np.empty((stop - start, self.dimension), np.float32) if out is None else out[: stop - start]
        valid = np.empty(stop - start, bool)
        for number in range(int(np.searchsorted(self._starts, start, "right")) - 1, len(self._groups)):
            first, part, group = self._groups[number]
            if first >= stop:
                break
            vectors, good = self._decoded(self._read(part, group))
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

    def runs(self, rows: Array) -> Iterator[tuple[slice, int, int]]:
        """Ascending `rows` -> (those of one row group, its first row, its last row + 1), without groups that hold
        none: a reader of scattered rows reads each group once."""
        for start, stop in self.bounds:
            a, b = np.searchsorted(rows, (start, stop)).tolist()
            if b > a:
                yield slice(a, b), start, stop

    def take(self, rows: Array) -> tuple[Array, Array]:
        """The given ascending rows as (float32 n D, valid bool n); invalid: 0."""
        out, valid = np.empty((len(rows), self.dimension), np.float32), np.empty(len(rows), bool)
        for run, start, stop in self.runs(rows):
            x, good = self.rows(start, stop)
            out[run], valid[run] = x[rows[run] - start], good[rows[run] - start]
        return out, valid


def bad_rows(folder: str, parts: range) -> list[tuple[str, str]]:
    """(key, reason) of all images without a vector."""
    found: list[tuple[str, str]] = []
    for part in parts:
        table = artifact.open_part(folder, part).read(columns=["key", "error"])
        found += [(k, e) for k, e in zip(*table.to_pydict().values(), strict=True) if e is not None]
    return found
