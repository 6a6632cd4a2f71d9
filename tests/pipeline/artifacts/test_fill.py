"""Filling a folder: only what is missing, once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.artifacts import artifact
from pipeline.artifacts.fill import Parts, Request, fill


def test_only_the_parts_that_are_missing_are_made(tmp_path: Path, no_ray: None) -> None:
    folder, made = str(tmp_path), list[int]()

    def maker(folder: str) -> Callable[[int], dict[str, Any]]:
        def make(number: int) -> dict[str, Any]:
            made.append(number)
            artifact.publish_part(folder, number, pa.table({"value": [number]}))
            return {"part": number}

        return make

    def once() -> tuple[str, int]:
        request, parts = Request("things", 1, {"of": "x"}, {}), Parts(range(4), maker, [folder], 1)
        filled = fill(folder, "thing", request, lambda: artifact.finish(folder, range(4), {}), parts)
        return filled.card["content"], filled.made

    content, count = once()
    assert count == 4 and made == [0, 1, 2, 3]
    (tmp_path / "card.json").unlink()  # killed before the card, and one part not yet whole
    (tmp_path / "00002.json").unlink()
    assert once() == (content, 1) and made == [0, 1, 2, 3, 2]
    assert once() == (content, 0) and len(made) == 5


def empty(folder: str) -> Callable[[int], dict[str, Any]]:
    def make(number: int) -> dict[str, Any]:
        artifact.publish_part(folder, number, pa.table({"value": [number]}))
        return {"part": number}

    return make


def filled(folder: str, of: str = "x", finish: Callable[[], artifact.Card] | None = None) -> Any:
    parts = Parts(range(3), empty, [folder], 0)
    done = finish or (lambda: artifact.finish(folder, range(3), {}))
    return fill(folder, "thing", Request("things", 1, {"of": of}, {}), done, parts)


def test_another_request_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    filled(str(tmp_path))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"inputs\.of is 'x' there, 'y' wanted"):
        filled(str(tmp_path), "y")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_finish_that_fails_leaves_the_parts_and_gives_the_folder_back(tmp_path: Path) -> None:
    def fails() -> artifact.Card:
        raise ValueError("too many are bad")

    with pytest.raises(ValueError, match="too many are bad"):
        filled(str(tmp_path), finish=fails)
    assert not (tmp_path / "card.json").exists() and not [p for p in tmp_path.iterdir() if p.name.startswith(".lease")]
    card, made = filled(str(tmp_path))
    assert made == 0 and card["rows"] == 3


def test_only_one_writes(tmp_path: Path) -> None:
    def second() -> artifact.Card:
        filled(str(tmp_path))
        raise AssertionError

    with pytest.raises(RuntimeError, match="is being written by process"):
        filled(str(tmp_path), finish=second)


def test_what_was_made_is_recorded_by_part_and_in_all(tmp_path: Path) -> None:
    filled(str(tmp_path))
    filled(str(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "timings.jsonl").read_text().splitlines()]
    assert [line.get("part", "end") for line in lines] == [0, 1, 2, "end", "end"]
    assert [line["parts_written"] for line in lines if line.get("event")] == [3, 0]
    assert all(line["job"] == "thing" for line in lines) and lines[3]["seconds"] > 0
