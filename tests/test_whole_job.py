"""The whole job on S3, and after kill -9: the same bytes as an undisturbed run without Ray."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.bench import chaos
from jobs.bench.chaos import COMPARED, MARKERS
from pipeline.artifacts import storage

REPOSITORY = Path(__file__).parent.parent
TINY = [
    "step",
    "tiny",
    "--weights",
    "random",
    "--crops",
    "4",
    "--tracking",
    "off",
    "--run.checkpoint-every",
    "5",
    "--run.threads",
    "1",
]
WITHOUT_RAY, WITH_RAY = ["--workers", "0", "--run.workers", "0"], ["--workers", "1", "--run.workers", "1"]


def start(output: str, how: list[str]) -> subprocess.Popen[str]:
    """In a process of its own: its Ray workers must find S3's endpoint in their environment."""
    command = [sys.executable, "-m", "jobs.run", *TINY, *how, "--output", output]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def to_the_end(process: subprocess.Popen[str]) -> None:
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0, told[-3000:]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    to_the_end(start(str(folder), WITHOUT_RAY))
    return folder


def parts(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for pattern in COMPARED for p in folder.glob(pattern)}


def markers(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for pattern in MARKERS for p in folder.glob(pattern)}


@pytest.mark.slow
def test_the_whole_job_on_s3_gives_the_bytes_of_the_local_one(s3: str, undisturbed: Path) -> None:
    to_the_end(start(f"{s3}/there", WITH_RAY))
    for name, content in parts(undisturbed).items():
        assert storage.read(f"{s3}/there/{name}") == content, name
    there = storage.listing(f"{s3}/there")
    assert {"samples/samples-mapper.png", "evaluation/evaluation.json", "train/metrics.jsonl"} <= set(there)


@pytest.mark.slow
def test_kill_9_costs_nothing_that_was_finished(undisturbed: Path, tmp_path: Path) -> None:
    """The driver is killed within its training on a Ray worker; then the same command goes on, without Ray.
    jobs.bench chaos kills at any moment, and Ray workers by turns."""
    process, deadline = start(str(tmp_path), WITH_RAY), time.monotonic() + 240
    while not list(tmp_path.glob("train/checkpoints/*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = markers(tmp_path)
    assert len(before) >= 4 and not (tmp_path / "train" / "weights.pt").exists()
    to_the_end(start(str(tmp_path), WITHOUT_RAY))
    assert parts(tmp_path) == parts(undisturbed) and len(parts(tmp_path)) >= 7
    after = markers(tmp_path)
    assert {path: after[path] for path in before} == before  # nothing that was finished is written again


@pytest.mark.long
def test_the_bench_of_kills() -> None:
    figures = chaos.run(chaos.Config(trials=1, kills=1, crops=4))
    assert figures["kills"] >= 1 and figures["files_compared"] >= 7
    assert figures["files_differ"] == 0 and figures["parts_written_twice"] == 0
