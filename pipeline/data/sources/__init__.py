"""Where samples come from, one file a source; finding the files is the whole registry.

A source's file has `Options` (a frozen dataclass), `open_source(place, options)`, `read_only(place, options)` (reads
files without listing them, for comparing a data set with its source), and `BUILT_IN`: whether it needs no place. Where
its bytes changed since, it has a `VERSION` and an option of that name, 1 where it was not written down.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.artifacts import storage
from pipeline.data.samples import Reader, Source


def names() -> list[str]:
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem != "__init__")


def load(kind: str) -> ModuleType:
    """A source's module. Raises ValueError where there is none."""
    if kind not in names():
        raise ValueError(f"no source {kind!r}: choose one of {', '.join(names())}")
    return import_module(f"pipeline.data.sources.{kind}")


def parse(text: str) -> tuple[str, str]:
    """(kind, place) of `demo`, `KIND:PLACE`, or a folder.

    Raises:
        ValueError: a source that needs a place without one, or the other way round.
    """
    kind, _, place = text.partition(":")
    if kind not in names():
        return "folder", storage.absolute(text, "--source")
    if load(kind).BUILT_IN:
        if place:
            raise ValueError(f"--source {text}: {kind} is built in and reads no files")
        return kind, kind
    if not place:
        raise ValueError(f"--source {text}: say what it reads, {kind}:PATH")
    return kind, storage.absolute(place, "--source")


def options(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """A source's options, checked and complete, as the request and dataset.json's hash hold them. `given`: name ->
    value, or text as it stands on a command line.

    Raises:
        ValueError: an option that the source has not, or a value that is none.
    """
    made = load(kind).Options
    if hasattr(load(kind), "VERSION"):
        given = {"version": load(kind).VERSION, **given}
    names = [one.name for one in fields(made)]
    if unknown := given.keys() - set(names):
        there = ", ".join(names) or "none"
        raise ValueError(f"--option {min(unknown)}: source {kind} has no such option, only {there}")
    try:
        checked = TypeAdapter(made).validate_python(given)
    except ValidationError as error:
        problem = error.errors()[0]
        where = problem["loc"][0] if problem["loc"] else ""
        raise ValueError(f"--option {where} {given.get(str(where), '')}: {problem['msg']}") from error
    plain = asdict(made())
    # What was added later is left out where it has its default: the request of older data sets stays as it is.
    kept = {name: value for name, value in asdict(checked).items() if name not in made.ADDED or value != plain[name]}
    return {"kind": kind, **kept}


def open_source(described: dict[str, Any], place: str) -> Source:
    """The source that `options` described."""
    module = load(described["kind"])
    source: Source = module.open_source(place, _options(module, described))
    return source


def read_only(described: dict[str, Any], place: str) -> Reader:
    """Reads a source's files without listing it: for `jobs.verify --source`.

    Raises:
        ValueError: the data set was made from a built-in source and the place is a folder, or the other way round.
    """
    module = load(described["kind"])
    if (place in names()) != module.BUILT_IN:
        made = described["kind"] if module.BUILT_IN else "a folder"
        raise ValueError(f"--source {place}: the data set was made from {made}")
    reader: Reader = module.read_only(place, _options(module, described))
    return reader


def _options(module: ModuleType, described: dict[str, Any]) -> Any:
    return module.Options(**{name: value for name, value in described.items() if name != "kind"})
