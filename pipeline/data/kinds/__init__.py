"""Kinds of fields, one file each: a new kind is one more file with its `KIND`."""

from __future__ import annotations

import functools
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.data.kinds.kind import Kind as Kind


@functools.cache
def _all() -> dict[str, Kind]:
    files = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "kind"))
    kinds: list[Any] = [import_module(f"pipeline.data.kinds.{name}").KIND for name in files]
    return {kind.name: kind for kind in kinds}


def names() -> list[str]:
    return sorted(_all())


def named(name: str) -> Kind:
    """The kind of this name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in _all():
        raise ValueError(f"no kind of field {name!r}: choose one of {', '.join(names())}")
    return _all()[name]
