"""A data set on disk, and reading it by key through its index.

    ROOT/dataset.json          fields, counts, fingerprint (written last)
    ROOT/request.json          the options, and a digest of the source's listing
    ROOT/train/00000.tar       plain USTAR: <key>.<member>.<ext> ..., <key>.json
    ROOT/train/00000.parquet   one row a sample, bad ones with their reason
    ROOT/train/00000.json      done-marker: counts, sha256 of the tar and of the index

Keys are zero-padded ordinals of the split's listing; a bad sample keeps its ordinal and has no bytes in the tar.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.family import Facts, FieldSpec
from pipeline.artifacts import storage
from pipeline.artifacts.artifact import digest
from pipeline.data import decode, kinds
from pipeline.data.samples import Field, field_json, fields_of

FORMAT = 1
"""Version of this layout; part of the request."""


def shard_path(root: str, split: str, shard: int, extension: str) -> str:
    return storage.join(root, split, f"{shard:05d}.{extension}")


def fingerprint(fields: dict[str, Field], tars: dict[str, list[str]]) -> str:
    """Of a data set: over its fields and, split by split, its tars' hashes."""
    return digest({"fields": {name: field_json(f) for name, f in fields.items()}, "tars": tars})


def summary(root: str, request: dict[str, Any], splits: dict[str, int]) -> dict[str, Any]:
    """dataset.json's content, from the request and the markers of `splits` (split -> number of shards).

    Raises:
        FileNotFoundError: a shard's marker is not there.
    """
    described: dict[str, Any] = {}
    for split, count in splits.items():
        markers = [storage.read_json(shard_path(root, split, i, "json")) for i in range(count)]
        described[split] = {
            "shards": count,
            "samples": sum(m["samples"] for m in markers),
            "bad": sum(m["bad"] for m in markers),
            "bytes": sum(m["bytes"] for m in markers),
            "tars": [m["tar_sha256"] for m in markers],
        }
        if any("off_palette" in m for m in markers):  # mean share of pixels far from every colour of the palette
            good = max(1, described[split]["samples"])
            described[split]["off_palette"] = sum(m["off_palette"] * m["samples"] for m in markers) / good
    fields = fields_of(request["options"]["fields"])
    return {
        "format": FORMAT,
        "fields": {name: field_json(f) for name, f in fields.items()},
        "splits": described,
        "max_pixels": request["options"]["max_pixels"],
        "request": digest(request),
        "fingerprint": fingerprint(fields, {split: d["tars"] for split, d in described.items()}),
    }


def load(root: str) -> dict[str, Any]:
    """dataset.json of a finished data set.

    Raises:
        ValueError: there is none, or its sharding was not finished.
    """
    path = storage.join(root, "dataset.json")
    if not storage.exists(path):
        begun = storage.exists(storage.join(root, "request.json"))
        what = "its sharding was not finished: run jobs.shard again" if begun else "it is no data set (see jobs.shard)"
        raise ValueError(f"{root} has no dataset.json: {what}")
    described: dict[str, Any] = storage.read_json(path)
    if described.get("format") != FORMAT:
        raise ValueError(
            f"{path}: format {described.get('format')!r}, this version reads {FORMAT}: run jobs.shard again"
        )
    return described


def read_index(root: str, split: str, shard: int) -> pa.Table:
    """All rows of one shard, good and bad, checked against the shard's done-marker.

    Raises:
        ValueError: the index is missing, damaged, or not the one that the marker names.
    """
    path = shard_path(root, split, shard, "parquet")
    try:
        data, marker = storage.read(path), storage.read_json(shard_path(root, split, shard, "json"))
        if hashlib.sha256(data).hexdigest() != marker["index_sha256"]:
            raise ValueError(f"{path} is not the index that its done-marker names: damaged, or of another tar")
        # On this thread alone: an Arrow thread that lets go of Python's bytes while Python ends aborts the process.
        # pq.read_table will not do: even with use_threads=False its scanner reads on Arrow's pools.
        return pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path} or its done-marker cannot be read ({error}): run jobs.shard again") from error


class Damaged(ValueError):
    """The data set itself is damaged: no reason to count a sample as bad."""


class DataSet:
    """One split of a finished data set: the good samples in key order, each member reachable by position.

    Raises:
        ValueError: not finished, no such split, an index that disagrees with its marker, a tar cut short.
    """

    def __init__(self, root: str, split: str = "train") -> None:
        described = load(root)
        if split not in described["splits"]:
            raise ValueError(f"{root} has no split {split!r}, only {', '.join(described['splits'])}")
        self.root, self.split = root, split
        self.fingerprint: str = described["fingerprint"]
        self.fields = fields_of(described["fields"])
        self.max_pixels: int = described["max_pixels"]
        self.shards = list(range(described["splits"][split]["shards"]))
        with ThreadPoolExecutor(16) as pool:  # an object store answers late, but many at once
            tables = list(pool.map(self._good, self.shards))
        self._starts = [0, *np.cumsum([table.num_rows for table in tables]).tolist()]
        self._table = pa.concat_tables(tables).combine_chunks()
        self.keys: list[str] = self._table["key"].to_pylist()
        self.labels: list[str | None] = self._table["label"].to_pylist()
        self._numbered: dict[str, list[Any]] = {}
        self._shard_of = np.repeat(np.array(self.shards, dtype=np.int64), np.diff(self._starts))

    def _good(self, shard: int) -> pa.Table:
        table = read_index(self.root, self.split, shard)
        path = shard_path(self.root, self.split, shard, "tar")
        wanted = storage.read_json(shard_path(self.root, self.split, shard, "json"))["bytes"]
        there = storage.size(path) if storage.exists(path) else 0
        if there != wanted:
            raise ValueError(
                f"{path} has {there} of {wanted} bytes: cut short; remove its .json and run jobs.shard again"
            )
        return table.filter(pc.equal(table["status"], "ok"))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def square(self) -> bool:
        """Whether all pictures are as wide as high."""
        return bool(pc.all(pc.equal(self._table["width"], self._table["height"])).as_py())

    def row(self, i: int) -> dict[str, Any]:
        """The index row at position `i`: key, width, height, source, label, <member>_offset, ..."""
        [row] = self._table.slice(i, 1).to_pylist()
        return dict(row)

    def shard_rows(self, shard: int) -> range:
        """The positions that lie in `shard`."""
        return range(self._starts[shard], self._starts[shard + 1])

    def member(self, i: int, member: str) -> bytes:
        """The bytes of one member, checked against the index's sha256.

        Raises:
            ValueError: no such member.
            Damaged: the tar does not hold what the index says.
        """
        if f"{member}_offset" not in self._table.column_names:
            raise ValueError(f"{self.root}: samples have no member {member!r}; the fields are {', '.join(self.fields)}")
        offset, size, sha256 = (self._table[f"{member}_{what}"][i].as_py() for what in ("offset", "size", "sha256"))
        path = shard_path(self.root, self.split, int(self._shard_of[i]), "tar")
        data = storage.read_range(path, offset, size)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Damaged(
                f"{path}: sample {self.keys[i]}, {member}: not the bytes that the index names; run jobs.verify"
            )
        return data

    def column(self, field: str) -> list[Any]:
        """The values of a field that the index has a column for, by position.

        Raises:
            ValueError: no such field, or its values are not in the index.
        """
        if field not in self._numbered:
            if f"{field}_value" not in self._table.column_names:
                raise ValueError(f"{self.root}: the index has no values of a field {field!r}")
            self._numbered[field] = self._table[f"{field}_value"].to_pylist()
        return self._numbered[field]

    def value(self, i: int, field: str) -> Any:
        """What a field of sample `i` holds: pixels as `image`, a class, texts, an array.

        Raises:
            ValueError: as `image`.
        """
        if field in self.fields and f"{field}_value" in self._table.column_names:
            return self.column(field)[i]
        return self.sample(i, (field,))[field]

    def image(self, i: int, field: str) -> np.ndarray:
        """uint8 H W 3 (label maps: ids H W), as `decode.pixels`.

        Raises:
            ValueError: no such field, or undecodable; the message names key and source.
        """
        found: np.ndarray = self.sample(i, (field,))[field]
        return found

    def sample(self, i: int, fields: tuple[str, ...] | None = None) -> dict[str, Any]:
        """Several fields (default: all) of one sample; a member that two of them share is read and decoded once."""
        found: dict[str, Any] = {}
        decoded: dict[tuple[str, str], np.ndarray] = {}
        for name in self.fields if fields is None else fields:
            if name not in self.fields:
                raise ValueError(f"{self.root} has no field {name!r}, only {', '.join(self.fields)}")
            field = self.fields[name]
            kind = kinds.named(field.kind)
            at = (field.member, "image" if field.palette else kind.pixels)
            try:
                if not kind.pixels:
                    found[name] = kind.read(self.member(i, field.member))
                    continue
                if at not in decoded:
                    decoded[at] = decode.pixels(self.member(i, field.member), at[1], self.max_pixels)
                found[name] = decode.half(decoded[at], field.half)
                if field.palette:
                    lossless = self._table[f"{field.member}_ext"][i].as_py() in decode.LOSSLESS
                    found[name] = field.palette.ids(found[name], lossless)[0]
            except Damaged:
                raise
            except ValueError as error:
                source = self._table["source"][i].as_py()
                raise ValueError(f"sample {self.keys[i]} ({source}), {field.member}: {error}") from error
        return found


def require_fields(data: DataSet, wanted: Mapping[str, FieldSpec]) -> None:
    """Raises ValueError where the data set lacks a field that a family reads, or has one of another kind."""
    match_fields(f"--data {data.root}", data.fields, wanted)


def match_fields(where: str, fields: Mapping[str, Field], wanted: Mapping[str, FieldSpec]) -> None:
    """As `require_fields`, of the fields of a source or a data set; `where` begins the message."""
    named = {"image": "pictures", "labels": "label maps"}
    for name, spec in wanted.items():
        field = fields.get(name)
        if field is None and spec.required:
            raise ValueError(f"{where}: has no field {name!r}, only {', '.join(sorted(fields))}")
        if field is not None and kinds.named(field.kind).read_as != spec.kind:
            there, here = (named.get(kind, f"of kind {kind}") for kind in (field.kind, spec.kind))
            raise ValueError(f"{where}: its {name}s are {there}, this family reads {here}")


ARRAYS = 64
"""Samples from whose arrays the root mean square is taken: the first ones."""


def root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))


def made_by(data: DataSet, field: str) -> str:
    """With what a field of `jobs.features` was computed; empty for others."""
    origin = storage.read_json(storage.join(data.root, "request.json"))["options"]["source"]
    if origin.get("kind") != "features" or data.fields[field].kind != "array":
        return ""
    how = (f"{name} {origin[name]}" for name in ("pool", "size", "preprocessing"))
    return ", ".join([f"{origin['net']} {origin['layer']}", *how, f"weights {origin['weights'][:12]}"])


def facts_of(data: DataSet) -> Facts:
    """What families may need to know of a training split: numbers of classes, vocabularies."""
    found: dict[str, dict[str, Any]] = {}
    for name, field in data.fields.items():
        kind = kinds.named(field.kind)
        values = data.column(name) if kind.column is not None else []
        found[name] = {"kind": kind.read_as, **kind.facts(values, field.names)}
        if kind.name == "array" and len(data):
            some = np.stack([data.value(i, name) for i in range(min(len(data), ARRAYS))])
            # Six digits: the last ones are not the same on every processor.
            found[name] |= {"shape": list(some.shape[1:]), "rms": float(f"{root_mean_square(some):.6g}")}
            if origin := made_by(data, name):
                found[name]["made_by"] = origin
    return Facts(len(data), found)
