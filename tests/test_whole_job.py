"""The whole job on S3, and after kill -9: the same weights as an undisturbed local run."""

import subprocess
import sys
from pathlib import Path

import pytest

from jobs.bench import chaos
from pipeline.artifacts import storage

REPOSITORY = Path(__file__).parent.parent


TINY = [sys.executable, "-m", "jobs.run", "step", "tiny", "--weights", "random", "--crops", "4", "--workers", "1"]


@pytest.mark.slow
def test_the_whole_job_on_s3_gives_the_weights_of_the_local_one(s3: str, tmp_path: Path) -> None:
    """In processes of their own: their Ray workers must find the endpoint in their environment."""
    running = [  # side by side: half of their time is waiting for Ray
        subprocess.Popen(
            [*TINY, "--output", output, "--tracking", "off"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for output in (str(tmp_path / "here"), f"{s3}/there")
    ]
    for process in running:
        told, _ = process.communicate(timeout=300)
        assert process.returncode == 0, told[-3000:]
    for name in ("data/dataset.json", "descriptors/00000.parquet", "neighbours/00000.parquet", "train/weights.pt"):
        assert storage.read(f"{s3}/there/{name}") == (tmp_path / "here" / name).read_bytes(), name
    there = storage.listing(f"{s3}/there")
    assert {"samples/samples-mapper.png", "evaluation/evaluation.json", "train/metrics.jsonl"} <= set(there)


@pytest.mark.slow
def test_kill_9_costs_nothing_that_was_finished(tmp_path: Path) -> None:
    """The driver, at a moment of its own; jobs.bench chaos does more of it, and kills Ray workers by turns."""
    figures = chaos.run(chaos.Config(trials=1, kills=1, crops=4))
    assert figures["kills"] >= 1 and figures["files_compared"] >= 7
    assert figures["files_differ"] == 0 and figures["parts_written_twice"] == 0
