"""kill -9 at random moments, the same command again, and the results compared byte by byte with an undisturbed run's.

`jobs.run step tiny` runs once undisturbed; then again and again, each time until a random moment at which its driver or
one of its Ray workers is killed, at last to its end. Compared: shards, descriptors, neighbours, weights. Finished parts
are not written again: their done-markers keep their time.
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

COMPARED = ("data/*/*.tar", "data/*/*.parquet", "descriptors/*.parquet", "neighbours/*.parquet", "train/weights.pt")
MARKERS = ("data/*/*.json", "descriptors/0*.json", "neighbours/0*.json", "train/stages/*.json")


@dataclass(frozen=True)
class Config:
    """How often, and when."""

    kills: int = 5
    """Times that something is killed."""
    seed: int = 0
    """Of the moments and the victims."""
    crops: int = 8
    """Demo crops per photograph."""
    folder: str = ""
    """Where the runs are kept; none: a temporary folder, removed at the end."""


def run(config: Config) -> dict[str, float]:
    """Returns kills, files compared, how many differ, parts written twice.

    Raises:
        RuntimeError: a run that was not disturbed failed.
    """
    root = Path(config.folder or tempfile.mkdtemp(prefix="chaos-"))
    root.mkdir(parents=True, exist_ok=True)
    chance = random.Random(config.seed)
    began = time.monotonic()
    _to_the_end(_start(root / "calm", config), root / "calm")
    length = time.monotonic() - began
    twice = killed = 0
    for number in range(config.kills):
        before = _markers(root / "shaken")
        process = _start(root / "shaken", config)
        moment = chance.uniform(0.15, 0.8) * length
        victim = "driver" if number % 2 == 0 else "worker"
        if _wait(process, moment):
            print(f"{number}: over before {moment:.0f} s")
            twice += _written_again(before, _markers(root / "shaken"))
            break
        name = _kill(process, victim, chance)
        killed += 1
        _gone(process)
        after = _markers(root / "shaken")
        twice += _written_again(before, after)
        print(f"{number}: killed {name} after {moment:.0f} s; {len(after)} parts done", flush=True)
    before = _markers(root / "shaken")
    _to_the_end(_start(root / "shaken", config), root / "shaken")
    twice += _written_again(before, _markers(root / "shaken"))
    files = sorted(p.relative_to(root / "calm") for pattern in COMPARED for p in (root / "calm").glob(pattern))
    differ = [f for f in files if not _same(root / "calm" / f, root / "shaken" / f)]
    for f in differ:
        print(f"differs: {f}")
    if not config.folder:
        shutil.rmtree(root)
    return {"kills": killed, "files_compared": len(files), "files_differ": len(differ), "parts_written_twice": twice}


def _start(folder: Path, config: Config) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jobs.run", "step", "tiny", "--output", str(folder), "--weights", "random"]
    command += ["--crops", str(config.crops), "--tracking", "off", "--run.checkpoint-every", "5"]
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.txt", "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def _to_the_end(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.wait(timeout=1800) != 0:
        raise RuntimeError(f"an undisturbed run failed: see {folder}/log.txt")


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
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
    name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    os.kill(pid, signal.SIGKILL)
    return name


def _workers(driver: int) -> list[int]:
    """Ray's workers below the driver."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            parents[int(folder.name)] = (int(fields[1]), (folder / "cmdline").read_bytes())
        except OSError:
            continue  # it ended meanwhile
    below = {driver}
    while grown := {p for p, (parent, _) in parents.items() if parent in below} - below:
        below |= grown
    return sorted(p for p in below if p != driver and parents[p][1].startswith(b"ray::"))


def _gone(process: subprocess.Popen[bytes]) -> None:
    """After a killed driver wait for its end; after a killed worker let the run recover by itself, to its end."""
    process.wait(timeout=1800)
    time.sleep(3)  # Ray's processes notice their driver's death


def _markers(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for pattern in MARKERS for p in folder.glob(pattern)}


def _written_again(before: dict[Path, int], after: dict[Path, int]) -> int:
    return sum(after.get(path) != moment for path, moment in before.items())


def _same(a: Path, b: Path) -> bool:
    return b.exists() and a.read_bytes() == b.read_bytes()
