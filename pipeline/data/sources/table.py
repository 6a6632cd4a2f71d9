"""Samples listed in a table: CSV, JSON lines or Parquet, one row a sample, one column a field.

    python -m jobs.shard --source table:FOLDER/samples.csv --option fields photo=image,kind=class,question=tokens

A column of pictures or arrays (`image`, `labels`, `instances`, `array`) holds paths, relative to the table's folder;
columns of other kinds hold the values themselves: a class's name or number (empty: none), or a text. In JSON lines and
Parquet the value may also be a list (several captions, ten answers). Two more columns have a meaning: `split` (train,
val or test) and `label` (the style label).
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import pandas as pd

from pipeline.artifacts import storage
from pipeline.data import kinds
from pipeline.data.samples import SPLITS, Entry, Field, Reader, Source

BUILT_IN = False
BY_PATH = ("image", "labels", "instances", "array")
"""Kinds whose column holds paths."""


@dataclass(frozen=True)
class Options:
    """What the columns are."""

    fields: str = ""
    """COLUMN=KIND, separated by commas; the columns' names become the fields'."""

    ADDED: ClassVar[tuple[str, ...]] = ()


def open_source(place: str, options: Options) -> Source:
    return Table(place, options)


def read_only(place: str, options: Options) -> Reader:
    return partial(_read, place.rpartition("/")[0], _kinds(options))


def _kinds(options: Options) -> dict[str, str]:
    found = {}
    for part in filter(None, options.fields.split(",")):
        name, equals, kind = part.strip().partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--option fields {options.fields}: wanted COLUMN=KIND, separated by commas, got {part!r}")
        found[name] = kinds.named(kind).name
    if not found:
        raise ValueError("--option fields: say which columns are fields, such as photo=image,question=tokens")
    return found


class Table:
    """The rows of one table file."""

    left_out: Sequence[str] = ()

    def __init__(self, path: str, options: Options) -> None:
        """Raises ValueError: no such file, not a table, or columns that are not there."""
        self.folder, self.kinds = path.rpartition("/")[0], _kinds(options)
        self.rows = _rows(path)
        if missing := [name for name in self.kinds if name not in (self.rows[0] if self.rows else {})]:
            there = ", ".join(self.rows[0]) if self.rows else "no rows"
            raise ValueError(f"--source {path}: has no column {missing[0]!r}, only {there}")
        self.classes = {name: _classes(name, self.rows) for name, kind in self.kinds.items() if kind == "class"}

    @property
    def fields(self) -> dict[str, Field]:
        return {n: Field(n, kind=kind, names=self.classes.get(n, ())) for n, kind in self.kinds.items()}

    def samples(self) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        for number, row in enumerate(self.rows):
            split = str(row.get("split") or "train")
            if split not in SPLITS:
                raise ValueError(f"row {number}: split {split!r} is none of {', '.join(SPLITS)}")
            files = {name: self._file(name, kind, row[name]) for name, kind in self.kinds.items()}
            label = row.get("label")
            found.setdefault(split, []).append(Entry(f"row {number}", files, str(label) if label else None))
        return {split: found[split] for split in SPLITS if split in found}

    def _file(self, name: str, kind: str, value: Any) -> str:
        if kind in BY_PATH:
            return str(value)
        if kind == "class":
            names = self.classes[name]
            if value in (None, ""):
                return "-1"
            return str(names.index(str(value)) if names else int(value))
        return kinds.named(kind).write(value).decode()

    @property
    def reader(self) -> Reader:
        return partial(_read, self.folder, self.kinds)


def _read(folder: str, kind_of: dict[str, str], path: str, member: str) -> bytes:
    return storage.read(storage.join(folder, path)) if kind_of[member] in BY_PATH else path.encode()


def _classes(name: str, rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """The classes' names, sorted; none where all are numbers."""
    seen = {str(row[name]) for row in rows if row[name] not in (None, "")}
    return () if all(value.lstrip("-").isdigit() for value in seen) else tuple(sorted(seen))


def _rows(path: str) -> list[dict[str, Any]]:
    if not storage.exists(path):
        raise ValueError(f"--source {path}: there is no such file")
    data = storage.read(path)
    try:
        if path.endswith(".parquet"):
            table = pd.read_parquet(io.BytesIO(data))
        elif path.endswith((".jsonl", ".ndjson")):
            return [json.loads(line) for line in data.decode().splitlines() if line.strip()]
        else:
            table = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"--source {path}: not a table that can be read ({error})") from error
    rows: list[dict[str, Any]] = table.astype(object).where(table.notna(), None).to_dict("records")
    return rows
