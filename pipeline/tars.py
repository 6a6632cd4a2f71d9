"""Samples -> one shard: a plain USTAR file, its index, its done-marker, each published whole.

Headers are written directly: 512 bytes, mtime 0, owner 0. A library's tar writer spends most of its time on them, and
Ray Data's cannot write the same bytes twice.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import decode, storage
from pipeline.shards import Field, shard_path

if TYPE_CHECKING:
    from pipeline.sources import Entry, Reader

KEY_DIGITS = 8
MAX_MEMBER = 8**11 - 1
"""A USTAR size has eleven octal digits."""

# POSIX.1-1988 USTAR: name 100, mode 8, uid 8, gid 8, size 12, mtime 12, checksum 8, type 1, link 100, magic 8, ...
_BEFORE = b"0000644\0" + b"0000000\0" * 2
_MTIME = b"00000000000\0"
_AFTER = (b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2).ljust(512 - 156, b"\0")
_SUM = sum(_BEFORE) + sum(_MTIME) + sum(b" " * 8) + sum(_AFTER)


def header(name: bytes, size: int) -> bytes:
    """The 512 bytes before a plain file's bytes.

    Raises:
        ValueError: a name of over 100 bytes, or 8 GiB or more.
    """
    if len(name) > 100 or size > MAX_MEMBER:
        raise ValueError(f"{name!r} of {size} bytes does not fit in a USTAR header")
    octal = b"%011o\0" % size
    checksum = b"%06o\0 " % (_SUM + sum(name) + sum(octal))
    return name.ljust(100, b"\0") + _BEFORE + octal + _MTIME + checksum + _AFTER


class TarFile:
    """Appends members to `sink` and keeps the SHA-256 of all that was written."""

    def __init__(self, sink: BinaryIO) -> None:
        self.sink, self.sha256, self.bytes = sink, hashlib.sha256(), 0

    def add(self, name: str, data: bytes) -> int:
        """Write a member; returns the offset of its bytes."""
        offset = self.bytes + 512
        self._write(header(name.encode(), len(data)) + data + bytes(-len(data) % 512))
        return offset

    def close(self) -> None:
        """The two zero blocks that end a tar. The sink stays open."""
        self._write(bytes(1024))

    def _write(self, block: bytes) -> None:
        self.sink.write(block)
        self.sha256.update(block)
        self.bytes += len(block)


@dataclass(frozen=True)
class Treatment:
    """What is done to each sample."""

    fields: dict[str, Field]
    max_pixels: int = decode.MAX_PIXELS
    resize: int = 0
    """Shortest side in pixels of the re-encoded PNG; 0 keeps the source's own bytes."""
    decode: bool = False
    """Decode every image, so that damage between header and end marker is found here."""

    @property
    def members(self) -> list[str]:
        return sorted({field.member for field in self.fields.values()})


class Index:
    """The columns of a shard's index, row by row."""

    def __init__(self, members: Sequence[str]) -> None:
        text, number = pa.string(), pa.int64()
        kinds = {
            "key": text,
            "status": text,
            "error": text,
            "source": text,
            "label": text,
            "width": number,
            "height": number,
        }
        kinds |= {"json_offset": number, "json_size": number}
        for m in members:
            kinds |= {f"{m}_source": text, f"{m}_source_sha256": text, f"{m}_ext": text, f"{m}_offset": number}
            kinds |= {f"{m}_size": number, f"{m}_sha256": text}
        self.schema = pa.schema(list(kinds.items()))
        self.columns: dict[str, list[Any]] = {name: [] for name in kinds}

    def add(self, row: dict[str, Any]) -> None:
        for name, column in self.columns.items():
            column.append(row.get(name))

    def to_bytes(self) -> bytes:
        sink = io.BytesIO()
        pq.write_table(pa.table(self.columns, schema=self.schema), sink, compression="zstd")
        return sink.getvalue()


@dataclass(frozen=True)
class Image:
    """A member ready to be written."""

    data: bytes
    extension: str
    width: int
    height: int
    sha256: str
    source_sha256: str


def prepare(data: bytes, fields: Iterable[Field], how: Treatment) -> Image:
    """Check one member's bytes, and re-encode them where a resize is wanted.

    Raises:
        ValueError: the reason why the sample is bad.
    """
    found = decode.header(data, how.max_pixels)
    halved = any(field.half for field in fields)
    labels = any(field.kind == "labels" for field in fields)
    if halved and found.width % 2:
        raise ValueError(f"{found.width} pixels wide: two halves side by side need an even width")
    if labels and found.colours != 1:
        raise ValueError(
            f"a label map has one channel of ids, this has {found.colours}: name its folder input, not labels"
        )
    source_sha256 = hashlib.sha256(data).hexdigest()
    kind = "labels" if labels else "image"
    if how.resize:
        data = decode.to_png(_resized(decode.pixels(data, kind, how.max_pixels), how.resize, kind, halved))
        found = decode.header(data)
    elif how.decode:
        decode.pixels(data, kind, how.max_pixels)
    sha256 = hashlib.sha256(data).hexdigest() if how.resize else source_sha256
    width = found.width // 2 if halved else found.width
    return Image(data, found.extension, width, found.height, sha256, source_sha256)


def _resized(pixels: Any, shortest: int, kind: str, halved: bool) -> Any:
    import numpy as np

    if not halved:
        return decode.resize(pixels, shortest, kind)
    # Each half by itself: the filter must not mix the two pictures at the seam.
    return np.concatenate(
        [decode.resize(decode.half(pixels, side), shortest, kind) for side in ("left", "right")], axis=1
    )


def read_sample(entry: Entry, read: Reader, how: Treatment) -> dict[str, Image]:
    """All members of one sample, checked.

    Raises:
        ValueError: the reason why the sample is bad; with several members it names the one.
    """
    if entry.problem:
        raise ValueError(entry.problem)
    found: dict[str, Image] = {}
    for member in how.members:
        try:
            data = read(entry.files[member], member)
            found[member] = prepare(data, [f for f in how.fields.values() if f.member == member], how)
        except (ValueError, FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise ValueError(f"{member}: {error}" if len(how.members) > 1 else str(error)) from error
    sizes = {(image.width, image.height) for image in found.values()}
    if len(sizes) > 1:
        raise ValueError("sizes differ: " + ", ".join(f"{m} {i.width} x {i.height}" for m, i in found.items()))
    return found


def _add(tar: TarFile, key: str, entry: Entry, images: dict[str, Image]) -> dict[str, Any]:
    """Write one sample; returns its index row."""
    size = next(iter(images.values()))
    row: dict[str, Any] = {"key": key, "status": "ok", "source": entry.source, "label": entry.label}
    row |= {"width": size.width, "height": size.height}
    for member, image in images.items():
        row[f"{member}_offset"] = tar.add(f"{key}.{member}.{image.extension}", image.data)
        row[f"{member}_size"], row[f"{member}_ext"] = len(image.data), image.extension
        row[f"{member}_sha256"], row[f"{member}_source_sha256"] = image.sha256, image.source_sha256
        row[f"{member}_source"] = entry.files[member]
    note = {"source": entry.source, "label": entry.label, "width": size.width, "height": size.height}
    data = json.dumps(note, ensure_ascii=False, separators=(",", ":")).encode()
    row["json_offset"], row["json_size"] = tar.add(f"{key}.json", data), len(data)
    return row


def write_shard(
    root: str, split: str, shard: int, first: int, entries: Sequence[Entry], read: Reader, how: Treatment
) -> dict[str, Any]:
    """Write shard number `shard`, whose first sample has ordinal `first`: tar, index, then the done-marker, returned.

    Raises:
        OSError: the source or the output cannot be reached, or the disk is full.
    """
    index, good, reasons = Index(how.members), 0, Counter[str]()
    path = shard_path(root, split, shard, "tar")
    with storage.temporary(path) as draft:
        with open(draft, "wb", buffering=1 << 20) as sink:
            tar = TarFile(sink)
            for ordinal, entry in enumerate(entries, start=first):
                key = f"{ordinal:0{KEY_DIGITS}d}"
                try:
                    images = read_sample(entry, read, how)
                except ValueError as error:
                    index.add(
                        {"key": key, "status": "bad", "error": str(error), "source": entry.source, "label": entry.label}
                    )
                    reasons[str(error)] += 1
                    continue
                index.add(_add(tar, key, entry, images))
                good += 1
            tar.close()
        storage.publish_file(path, draft)
    rows = index.to_bytes()
    storage.publish(shard_path(root, split, shard, "parquet"), rows)
    marker = {
        "samples": good,
        "bad": len(entries) - good,
        "bytes": tar.bytes,
        "tar_sha256": tar.sha256.hexdigest(),
        "index_sha256": hashlib.sha256(rows).hexdigest(),
    }
    storage.publish_json(shard_path(root, split, shard, "json"), marker)
    return marker
