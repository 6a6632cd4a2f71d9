"""The bench of first sheets: CPU seconds of one process up to its first sheet, kept for the table of families."""

import json
import os
import resource
from pathlib import Path

import pytest

from jobs.bench import first_sheet


def test_a_process_s_cpu_seconds_are_those_that_the_system_counts() -> None:
    sum(i * i for i in range(2_000_000))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    assert first_sheet._spent(os.getpid()) == pytest.approx(usage.ru_utime + usage.ru_stime, abs=0.2)


def test_it_measures_to_the_first_sheet_and_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "sheets.json"
    found = first_sheet.run(first_sheet.Config(families=("pix2pixhd",), write=str(path)))
    assert found.keys() == {"pix2pixhd"} and 0.5 < found["pix2pixhd"] < 120
    told = json.loads(path.read_text())
    assert told["cpu_seconds"] == found and told["command"] == "python -m jobs.bench first-sheet"


def test_a_run_without_a_sheet_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(first_sheet.SOURCES, "gans", ("--source", "/nowhere"))
    with pytest.raises(RuntimeError, match=r"jobs\.run gans tiny .* made no sheet"):
        first_sheet.run(first_sheet.Config(families=("gans",)))
