"""An artifact folder: numbered Parquet parts, each with a done-marker, and a card that says what made it, of what.

    FOLDER/request.json     written first: kind, algorithm version, inputs, options
    FOLDER/00000.parquet    one part per unit of work
    FOLDER/00000.json       its done-marker (rows, sha256), written after it
    FOLDER/card.json        written last: the request, two hashes, what is worth knowing

`request` hashes what is known beforehand and decides between nothing to do and an error; `content` hashes the parts'
bytes and is what later artifacts and `jobs.verify` rely on. Nothing in either holds a clock, a host, an absolute path.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts import storage

Card = dict[str, Any]
SHOWN = 4
"""Differences of two requests that an error names."""
LONGEST = 70
"""Characters of a value in it."""


def digest(value: Any) -> str:
    """Hex SHA-256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def begin(folder: str, kind: str, version: int, inputs: dict[str, Any], options: dict[str, Any]) -> Card | None:
    """Claim `folder` for this request. Returns its card where the work is done already, else None. A part that does not
    have the bytes that its done-marker names is taken out, to be made again, and so is the card then.

    Raises:
        ValueError: the folder holds the results of another request; the message names what differs.
    """
    request = check(folder, kind, version, inputs, options)
    path = storage.join(folder, "request.json")
    if not storage.exists(path):
        storage.publish_json(path, request)
    _take_out_damaged(folder)
    path = storage.join(folder, "card.json")
    if not storage.exists(path):
        return None
    card = load_card(folder)
    if done_parts(folder) >= set(range(card.get("parts", 0))):
        return card
    storage.remove(path)  # a damaged part was taken out: it is made again
    return None


def check(folder: str, kind: str, version: int, inputs: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The request in its canonical form; writes nothing. Raises ValueError as `begin`."""
    request: dict[str, Any] = json.loads(
        json.dumps({"kind": kind, "version": version, "inputs": inputs, "options": options})
    )
    path = storage.join(folder, "request.json")
    if storage.exists(path) and (there := storage.read_json(path)) != request:
        raise ValueError(
            f"{folder} holds another {there.get('kind', 'artifact')}: {_difference(there, request)}. "
            "Nothing is overwritten: choose another output folder, or remove this one"
        )
    return request


def _difference(there: dict[str, Any], wanted: dict[str, Any]) -> str:
    def flat(value: Any, name: str = "") -> dict[str, Any]:
        if not isinstance(value, dict):
            return {name: value}
        return {k: v for key, inner in value.items() for k, v in flat(inner, f"{name}.{key}".lstrip(".")).items()}

    a, b = flat(there), flat(wanted)
    differ = [k for k in a.keys() | b.keys() if a.get(k, "absent") != b.get(k, "absent")]
    differ.sort(key=lambda k: (k not in a or k not in b, k))  # what both name says most
    told = [f"{k} is {_short(a.get(k, 'absent'))} there, {_short(b.get(k, 'absent'))} wanted" for k in differ[:SHOWN]]
    rest = len(differ) - len(told)
    return "; ".join(told) + (f"; and {rest} more" if rest else "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def part_name(number: int) -> str:
    return f"{number:05d}"


def done_parts(folder: str) -> set[int]:
    """Numbers of the parts that are there with their done-marker."""
    there = set(storage.names(folder))
    return {int(n[:-5]) for n in there if n.endswith(".json") and n[:-5].isdigit() and n[:-5] + ".parquet" in there}


def _take_out_damaged(folder: str) -> None:
    """Remove, and name, the parts that are not what was published (cut short, a bad disk)."""
    numbers = sorted(done_parts(folder))
    with ThreadPoolExecutor(8) as threads:
        sound = list(threads.map(lambda number: _sound(folder, number), numbers))
    for number, good in zip(numbers, sound, strict=True):
        if not good:
            part, marker = (storage.join(folder, f"{part_name(number)}.{kind}") for kind in ("parquet", "json"))
            print(f"{part} is not what its done-marker names: it is made again")
            storage.remove(marker)
            storage.remove(part)


def _sound(folder: str, number: int) -> bool:
    part, marker = (storage.join(folder, f"{part_name(number)}.{kind}") for kind in ("parquet", "json"))
    try:
        said = storage.read_json(marker)
        return bool(storage.size(part) == said["bytes"] and storage.sha256_file(part) == said["sha256"])
    except (ValueError, KeyError, TypeError):  # the marker itself
        return False


def publish_part(folder: str, number: int, table: pa.Table) -> None:
    """Write part `number`, then its done-marker."""
    sink = io.BytesIO()
    # Float descriptors do not compress, and bytes stay reproducible; each page's checksum is compared when it is read.
    pq.write_table(table, sink, compression="none", write_page_checksum=True)
    data = sink.getvalue()
    storage.publish(storage.join(folder, part_name(number) + ".parquet"), data)
    marker = {"rows": table.num_rows, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    storage.publish_json(storage.join(folder, part_name(number) + ".json"), marker)


class _Hashed(io.RawIOBase):
    """A local file that hashes what is written to it."""

    def __init__(self, path: str) -> None:
        self.file, self.digest = open(path, "wb"), hashlib.sha256()  # noqa: SIM115

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.file.tell()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        if not self.file.closed:
            self.file.flush()

    def close(self) -> None:
        self.file.close()
        super().close()


def publish_rows(folder: str, number: int, schema: pa.Schema, groups: Iterable[pa.Table]) -> None:
    """As `publish_part`, one row group after the other: one is written while the next is computed, and memory holds two
    of them, not the part."""
    path = storage.join(folder, part_name(number) + ".parquet")
    rows = 0
    plain: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    plain["write_page_checksum"] = True
    with storage.temporary(path) as draft:
        with (
            _Hashed(draft) as sink,
            pq.ParquetWriter(sink, schema, **plain) as writer,
            ThreadPoolExecutor(1) as thread,
        ):
            pending: Future[None] | None = None
            for table in groups:
                if pending is not None:
                    pending.result()
                pending = thread.submit(writer.write_table, table, max(1, table.num_rows))
                rows += table.num_rows
            if pending is not None:
                pending.result()
        marker = {"rows": rows, "bytes": storage.size(draft), "sha256": sink.digest.hexdigest()}
        storage.publish_file(path, draft)
    storage.publish_json(storage.join(folder, part_name(number) + ".json"), marker)


class _Ranges(io.RawIOBase):
    """A remote file read range by range."""

    def __init__(self, path: str) -> None:
        self.path, self.size, self.at = path, storage.size(path), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self.size - self.at)
        data = storage.read_range(self.path, self.at, left if size is None or size < 0 else min(size, left))
        self.at += len(data)
        return data


def open_part(folder: str, number: int, check: bool = True, footer: Any = None) -> pq.ParquetFile:
    """Part `number`, to be read row group by row group. `check`: compare pages with their checksums. `footer`: its
    metadata, where they were read before. Raises ValueError as `read_part`."""
    path = storage.join(folder, part_name(number) + ".parquet")
    try:
        source = pa.PythonFile(_Ranges(path), mode="r") if storage.is_remote(path) else path
        return pq.ParquetFile(source, metadata=footer, page_checksum_verification=check)
    except (pa.ArrowInvalid, FileNotFoundError) as error:
        raise ValueError(f"{path} cannot be read ({error}): run its job again, which makes it anew") from error


def read_part(folder: str, number: int, columns: list[str] | None = None) -> pa.Table:
    """Raises ValueError naming the file where it is cut short or not Parquet."""
    path = storage.join(folder, part_name(number) + ".parquet")
    try:
        if storage.is_remote(path):  # Python's bytes: on this thread alone, see shards.read_index
            whole = pq.ParquetFile(pa.BufferReader(storage.read(path)), page_checksum_verification=True)
            return whole.read(columns=columns, use_threads=False)
        return pq.read_table(path, columns=columns, memory_map=False, page_checksum_verification=True)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and storage.is_remote(path) and not isinstance(error, FileNotFoundError):
            raise  # the store's own trouble
        raise ValueError(f"{path} cannot be read ({error}): run its job again, which makes it anew") from error


def finish(folder: str, parts: Iterable[int], notes: dict[str, Any]) -> Card:
    """Write the card. `notes`: results worth knowing (counts, hubs), reproducible like the parts."""
    request = storage.read_json(storage.join(folder, "request.json"))
    markers = [storage.read_json(storage.join(folder, part_name(i) + ".json")) for i in parts]
    card = {
        **request,
        "request": digest(request),
        "content": digest([m["sha256"] for m in markers]),
        "parts": len(markers),
        "rows": sum(m["rows"] for m in markers),
        "notes": notes,
    }
    card["card"] = digest(card)  # of all the above, so that a damaged note is found too
    storage.publish_json(storage.join(folder, "card.json"), card)
    return card


def load_card(folder: str, kind: str | None = None) -> Card:
    """The card of a finished artifact.

    Raises:
        ValueError: not finished, not an artifact, or of another kind than wanted.
    """
    path = storage.join(folder, "card.json")
    if not storage.exists(path):
        state = (
            "was not finished: run its job again" if storage.exists(storage.join(folder, "request.json")) else "is none"
        )
        raise ValueError(f"{folder}: wanted {kind or 'an artifact'}, but there is no card.json; it {state}")
    card: Card = storage.read_json(path)
    if "card" in card and card["card"] != digest({name: value for name, value in card.items() if name != "card"}):
        raise ValueError(f"{path} is damaged or was edited: remove it and run its job again")
    if kind is not None and card.get("kind") != kind:
        raise ValueError(f"{folder} holds {card.get('kind')}, wanted {kind}")
    return card


def record(folder: str, **values: Any) -> None:
    """Append a line to timings.jsonl: seconds, memory, versions. Recorded, never hashed or compared."""
    path = storage.join(folder, "timings.jsonl")
    if storage.is_remote(path):
        old = storage.read(path) if storage.exists(path) else b""
        storage.publish(path, old + (json.dumps(values) + "\n").encode())
        return
    with open(path, "a") as f:
        f.write(json.dumps(values) + "\n")
