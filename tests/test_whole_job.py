"""The whole job on S3, killed there and resumed: the same bytes as an undisturbed run on a disk and without Ray."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

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


def markers(root: str) -> dict[str, Any]:
    """When each finished part was written."""
    fs, inner = storage._fs(root)
    return {path: fs.modified(path) for pattern in MARKERS for path in fs.glob(f"{inner}/{pattern}")}


@pytest.mark.slow
def test_kill_9_on_s3_costs_nothing_that_was_finished(s3: str, undisturbed: Path) -> None:
    """The driver is killed within its training on a Ray worker; then the same command goes on, without Ray.
    jobs.bench chaos kills at any moment, and Ray workers by turns."""
    root, deadline = f"{s3}/there", time.monotonic() + 240
    process = start(root, WITH_RAY)
    while not storage.names(f"{root}/train/checkpoints"):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = markers(root)
    assert len(before) >= 4 and not storage.exists(f"{root}/train/weights.pt")
    to_the_end(start(root, WITHOUT_RAY))
    wanted = parts(undisturbed)
    assert len(wanted) >= 7
    for name, content in wanted.items():
        assert storage.read(f"{root}/{name}") == content, name
    after = markers(root)
    assert {path: after[path] for path in before} == before  # nothing that was finished is written again
    there = storage.listing(root)
    assert {"samples/samples-mapper.png", "evaluation/evaluation.json", "train/metrics.jsonl"} <= set(there)


@pytest.mark.long
def test_the_bench_of_kills() -> None:
    figures = chaos.run(chaos.Config(trials=1, kills=1, crops=4))
    assert figures["kills"] >= 1 and figures["files_compared"] >= 7
    assert figures["files_differ"] == 0 and figures["parts_written_twice"] == 0
