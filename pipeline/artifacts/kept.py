"""Sheets and figures, kept while what they were made of stays the same.

    FOLDER/made.json   the request, and the sha256 of each file; written last

Unlike an artifact (`artifact.begin`), whose folder refuses another request, such files are made anew for another one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from pipeline.artifacts import storage


def find(folder: str, request: dict[str, Any]) -> list[str] | None:
    """Names of the files in `folder`, in the order of `keep`, if they were made by this `request` and are as they were
    written. If not, None; where there was something, a line says why it is made anew."""
    path = storage.join(folder, "made.json")
    if not storage.exists(path):
        return None
    there = storage.read_json(path)
    reasons = [f"{name} differs" for name in _differing(there["request"], _canonical(request))]
    reasons += [
        f"{name} is missing or was changed" for name, sha256 in there["files"] if _damaged(folder, name, sha256)
    ]
    if not reasons:
        return [name for name, _ in there["files"]]
    print(f"{folder} is made anew: {', '.join(reasons)}")
    return None


def forget(folder: str) -> None:
    """Before other files are made in `folder`: what a kill leaves there counts as nothing."""
    storage.remove(storage.join(folder, "made.json"))


def keep(folder: str, request: dict[str, Any], names: Iterable[str]) -> None:
    """Note that the files `names` in `folder` were made by `request` (JSON values)."""
    files = [[name, storage.sha256_file(storage.join(folder, name))] for name in names]
    storage.publish_json(storage.join(folder, "made.json"), {"request": _canonical(request), "files": files})


def _canonical(request: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(request))
    return value


def _differing(there: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    absent = object()
    return [name for name in sorted(there.keys() | wanted) if there.get(name, absent) != wanted.get(name, absent)]


def _damaged(folder: str, name: str, sha256: str) -> bool:
    try:
        return hashlib.sha256(storage.read(storage.join(folder, name))).hexdigest() != sha256
    except FileNotFoundError:
        return True
