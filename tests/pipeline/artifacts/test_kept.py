"""Files are kept for the request that made them, as long as they are as they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts import kept

REQUEST: dict[str, Any] = {"weights": "ab", "count": 6, "samplers": ("prior",)}


def made(folder: Path) -> str:
    for name in ("b.png", "a.json"):
        (folder / name).write_text(name)
    kept.keep(str(folder), REQUEST, ["b.png", "a.json"])
    return str(folder)


def test_the_same_request_finds_its_files_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kept.find(str(tmp_path), REQUEST) is None
    folder = made(tmp_path)
    assert kept.find(folder, REQUEST) == ["b.png", "a.json"]
    assert capsys.readouterr().out == ""
    kept.forget(folder)
    assert kept.find(folder, REQUEST) is None and (tmp_path / "a.json").exists()


@pytest.mark.parametrize("change", [{"weights": "cd"}, {"weights": None}, {"samplers": ["prior", "posterior"]}])
def test_another_request_says_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    folder = made(tmp_path)
    assert kept.find(folder, {**REQUEST, **change}) is None
    assert capsys.readouterr().out == f"{folder} is made anew: {next(iter(change))} differs\n"
    assert kept.find(folder, {**REQUEST, "new": 0}) is None
    assert "new differs" in capsys.readouterr().out
    assert kept.find(folder, {"weights": "ab", "count": 6}) is None
    assert "samplers differs" in capsys.readouterr().out


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("other")])
def test_a_changed_file_is_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Any) -> None:
    folder = made(tmp_path)
    damage(tmp_path / "a.json")
    assert kept.find(folder, REQUEST) is None
    assert capsys.readouterr().out == f"{folder} is made anew: a.json is missing or was changed\n"
