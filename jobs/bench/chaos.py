"""kill -9 at random moments, the same command again, and the results compared byte by byte with an undisturbed run's.

`jobs.run step tiny` runs once undisturbed. Each trial runs it again and kills its driver or one of its Ray workers (job
actor or training worker), in turns, at random moments. After a worker's death the run must go on by itself; after the
driver's, the same command is given again. Compared: shards, descriptors, neighbours, weights. Finished parts are not
written again: their done-markers keep their time.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from jobs.bench.harness import processes

COMPARED = ("data/*/*.tar", "data/*/*.parquet", "descriptors/*.parquet", "neighbours/*.parquet", "train/weights.pt")
VICTIMS = (b"ray::_Worker", b"ray::RayTrainWorker")
MARKERS = ("data/*/*.json", "descriptors/0*.json", "neighbours/0*.json", "train/stages/*.json")


@dataclass(frozen=True)
class Config:
    """How often, and when."""

    trials: int = 5
    """Runs from the beginning."""
    kills: int = 1
    """Kills in each."""
    seed: int = 0
    """Of the moments and the victims."""
    crops: int = 8
    """Demo crops per photograph."""
    folder: str = ""
    """Where the runs are kept; none: a temporary folder, removed at the end."""


def run(config: Config) -> dict[str, float]:
    """Returns kills, files compared (over all trials), how many differ, parts written twice.

    Raises:
        RuntimeError: a run that was not disturbed, or only by a worker's death, failed.
    """
    root = Path(config.folder or tempfile.mkdtemp(prefix="chaos-"))
    root.mkdir(parents=True, exist_ok=True)
    chance = random.Random(config.seed)
    began = time.monotonic()
    _to_the_end(_start(root / "calm", config), root / "calm")
    length = time.monotonic() - began
    files = sorted(p.relative_to(root / "calm") for pattern in COMPARED for p in (root / "calm").glob(pattern))
    killed = twice = differ = 0
    for trial in range(config.trials):
        folder = root / f"shaken-{trial}"
        done, again = _trial(folder, config, trial, length, chance)
        wrong = [f for f in files if not _same(root / "calm" / f, folder / f)]
        killed, twice, differ = killed + done, twice + again, differ + len(wrong)
        for f in wrong:
            print(f"trial {trial} differs: {f}", flush=True)
    if not config.folder:
        shutil.rmtree(root)
    compared = len(files) * config.trials
    return {"kills": killed, "files_compared": compared, "files_differ": differ, "parts_written_twice": twice}


def _trial(folder: Path, config: Config, trial: int, length: float, chance: random.Random) -> tuple[int, int]:
    """(kills, parts written twice) of one run from its beginning to its end."""
    process = _start(folder, config)
    killed = 0
    seen: dict[Path, int] = {}
    for number in range(config.kills):
        moment = chance.uniform(0.15, 0.9) * length / config.kills
        while (over := _ended(process, moment)) and number == 0 and moment > 1:
            print(f"trial {trial}: over before {moment:.0f} s; again, sooner", flush=True)  # the machine got faster
            moment /= 2
            shutil.rmtree(folder)
            process = _start(folder, config)
        if over:
            break
        victim = "driver" if (trial + number) % 2 == 0 else "worker"
        seen = {**_markers(folder), **seen}
        name = _kill(process, victim, chance)
        killed += 1
        print(f"trial {trial}: killed {name} after {moment:.0f} s, {len(seen)} parts done", flush=True)
        if name == "the driver":
            process.wait()
            time.sleep(3)  # Ray's processes notice their driver's death
            process = _start(folder, config)
    _to_the_end(process, folder)
    return killed, _written_again(seen, _markers(folder))


def _start(folder: Path, config: Config) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jobs.run", "step", "tiny", "--output", str(folder), "--weights", "random"]
    command += ["--crops", str(config.crops), "--tracking", "off", "--run.checkpoint-every", "5"]
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.txt", "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def _to_the_end(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.wait(timeout=1800) != 0:
        raise RuntimeError(f"a run that should have ended well failed: see {folder}/log.txt")


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it ended by itself in that time."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill(process: subprocess.Popen[bytes], victim: str, chance: random.Random) -> str:
    workers = _workers(process.pid) if victim == "worker" else []
    if not workers:
        os.kill(process.pid, signal.SIGKILL)
        return "the driver"
    pid = chance.choice(workers)
    name = processes.command_line(pid).split(b"\0")[0].decode()
    os.kill(pid, signal.SIGKILL)
    return name


def _workers(driver: int) -> list[int]:
    """The actors of our jobs and the training workers below the driver. Not Ray's own agents: its node dies with one,
    and the driver with that."""
    return [p for p in processes.tree(driver) if p != driver and processes.command_line(p).startswith(VICTIMS)]


def _markers(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for pattern in MARKERS for p in folder.glob(pattern)}


def _written_again(before: dict[Path, int], after: dict[Path, int]) -> int:
    return sum(after.get(path) != moment for path, moment in before.items())


def _same(a: Path, b: Path) -> bool:
    return b.exists() and a.read_bytes() == b.read_bytes()
