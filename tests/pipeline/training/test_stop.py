"""Ctrl-C at a terminal goes to every process of the group: the run is saved, and ends within seconds, without a
traceback; nothing is left in the temporary folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.runs import checkpoint

REPOSITORY = Path(__file__).parents[3]
LONG = ["--crn-images=1000000", "--run.evaluate-every=1000000", "--run.checkpoint-every=1000000", "--run.threads=1"]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A temporary folder with a short name: Ray makes sockets in it, whose paths have at most 107 characters."""
    folder = tempfile.mkdtemp(prefix="stop-", dir="/tmp")
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


def begin(data: str, output: Path, workers: int, temporary: Path) -> subprocess.Popen[str]:
    """A run of hours, in a process group of its own, after its first steps. (Ray's processes are niced: on a busy
    machine they take minutes to begin.)"""
    line = [sys.executable, "-m", "jobs.train", "imle", "tiny", "--data", data, "--output", str(output)]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    process = subprocess.Popen(
        [*line, "--run.workers", str(workers), *LONG],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: (output / "progress.json").exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1]
    return process


def until(true: Callable[[], bool], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def ours(temporary: Path) -> list[str]:
    """All but what Ray's sessions and torch's caches leave."""
    return [
        p.name for p in temporary.iterdir() if p.name not in ("ray", "torchinductor_root") and "torch" not in p.name
    ]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_ctrl_c_saves_and_ends(tiny_work: dict[str, str], tmp_path: Path, temporary: Path, workers: int) -> None:
    (temporary / "variegate-train-dead").mkdir()  # of a run that was killed: nobody holds it
    process = begin(tiny_work["data"], tmp_path, workers, temporary)
    if workers:
        [folder] = ours(temporary)  # Ray Train's own record
        assert folder.startswith("variegate-train-") and folder != "variegate-train-dead"
    os.killpg(process.pid, signal.SIGINT)
    began = time.monotonic()
    _, told = process.communicate(timeout=120)
    took = time.monotonic() - began
    assert process.returncode == 130, told
    assert "Traceback" not in told and "interrupted: stopped at step" in told
    assert "goes on with the same command" in told
    assert took < 60, "seconds on a quiet machine; the group is not killed after a wait for Ray"
    step = checkpoint.steps(str(tmp_path))[-1]  # the only one: none was due
    assert f"stopped at step {step};" in told and step > 0
    assert ours(temporary) == ([] if workers else ["variegate-train-dead"])  # only who needs one looks
