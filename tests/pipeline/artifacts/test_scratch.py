"""Folders in the temporary folder: none is left by a run that ends, none of a killed one by the next."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.artifacts import storage
from pipeline.artifacts.scratch import Scratch
from pipeline.tracking.journal import Tracker

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder, empty, of this process and its children."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def killed(temporary: Path) -> Iterator[Path]:
    """A folder whose owner was killed."""
    code = "import time; from pipeline.artifacts.scratch import Scratch; own = Scratch('run'); "
    code += "print(own.path, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        (path / "inside").mkdir()
        with Scratch("other"):
            assert path.exists()  # its owner lives
        process.kill()
        process.wait()
        yield path


def test_it_ends_with_its_block(temporary: Path) -> None:
    with Scratch("run") as path:
        Path(path, "file").write_text("x")
        assert [p.name.startswith("variegate-run-") for p in temporary.iterdir()] == [True]
        with Scratch("run") as other:
            assert path != other and Path(path).exists()
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(killed: Path, temporary: Path) -> None:
    assert killed.exists()
    (temporary / "variegate-file").write_text("not a folder")
    (temporary / "others").mkdir()
    Scratch("run").close()
    assert sorted(p.name for p in temporary.iterdir()) == ["others", "variegate-file"]


def test_a_tracker_and_a_draft_of_an_object_store_leave_nothing(s3: str, temporary: Path) -> None:
    with Tracker(f"{s3}/scratch/run", None, job="train", name="x") as tracker:
        assert tracker.local.startswith(str(temporary))
        tracker.scalars({"a": 1.0}, 1)
    with storage.temporary(f"{s3}/scratch/a") as draft:
        Path(draft).write_bytes(b"new")
        storage.publish_file(f"{s3}/scratch/a", draft)
    assert storage.read(f"{s3}/scratch/a") == b"new" and storage.exists(f"{s3}/scratch/run/metrics.jsonl")
    assert [p.name for p in temporary.iterdir()] == []
