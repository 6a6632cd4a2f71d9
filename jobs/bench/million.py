"""Neighbours of a million sketches: seconds, memory and recall of jobs.neighbours, against the plan's predictions.

The coordinates are made up (`harness.vectors.coordinates`) and coded as jobs.sketch codes pictures. What real pictures
give is not known from them.

`--kills 3` searches a second time into another folder, kills the whole job with SIGKILL at three seeded moments, gives
the same command again, and compares the bytes of all that was published.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs.bench.harness import vectors
from jobs.bench.harness.processes import tree, watch
from pipeline.artifacts import artifact


@dataclass(frozen=True)
class Config:
    """Sizes of the measurement."""

    folder: str
    """Where codes and lists are put, and kept."""
    n: int = 1_000_000
    """Sketches."""
    bytes: int = 86
    """Of a sketch, at two directions a byte; 0: no sketches but float32 vectors."""
    d: int = 128
    """Length of a vector, where there are no sketches."""
    method: Literal["exact", "certified", "index"] = "index"
    """The first word of jobs.neighbours."""
    memory: str = "8GiB"
    """As jobs.neighbours --memory."""
    index: str = "auto"
    """As jobs.neighbours --index."""
    probes: int = 0
    """As jobs.neighbours --probes."""
    candidates: int = 50
    """As jobs.neighbours --candidates."""
    workers: int = 2
    """Ray actors, one thread each."""
    kills: int = 0
    """Times that a second search is killed."""
    seed: int = 0
    """Of the vectors and of the moments."""


def run(config: Config) -> dict[str, float]:
    """Returns seconds (of the whole command), seconds_since_plan (what the plan foretells), peak_bytes, recall5 and the
    card's other measures; with kills files_compared and files_differ.

    Raises:
        RuntimeError: a search that was not killed failed.
    """
    root = Path(config.folder).absolute()
    form = f"{config.bytes}" if config.bytes else f"float32-{config.d}"
    source = root / f"sketches-{config.n}-{form}-{config.seed}"
    if not (source / "card.json").exists():
        vectors.sketches(str(source), config.n, config.bytes, config.d, config.seed)
    began = time.monotonic()
    log = root / "calm.txt"
    process = _start(config, source, root / "calm", log)
    peak = [0]
    watcher = threading.Thread(target=watch, args=(process, peak), daemon=True)
    watcher.start()
    if process.wait():
        raise RuntimeError(f"the search failed: see {log}")
    seconds = time.monotonic() - began
    watcher.join()
    notes = artifact.load_card(str(root / "calm"), "neighbours")["notes"]
    print(json.dumps(notes), flush=True)
    foretold, end = (_event(root / "calm", name) for name in ("plan", "end"))
    result = {
        "n": config.n,
        "bytes": config.bytes or 4 * config.d,
        "seconds": seconds,
        "seconds_foretold": foretold["seconds"],
        "seconds_since_plan": end["seconds"],
        "peak_bytes": peak[0],
        "peak_foretold": foretold["peak"],
        **{k: v for k, v in notes.items() if k.startswith(("recall_", "far_scanned", "compared"))},
    }
    if "recall_near5" in notes:
        result["recall5"] = notes["recall_near5"]
    return {**result, **(_shaken(config, source, root, seconds) if config.kills else {})}


def _event(folder: Path, name: str) -> dict[str, float]:
    """`plan`: what the search said before it began; `end`: what it took since then."""
    lines = map(json.loads, (folder / "timings.jsonl").read_text().splitlines())
    found: dict[str, float] = next(line for line in lines if line.get("event") == name)
    return found


def _start(config: Config, source: Path, output: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jobs.neighbours", config.method, "--descriptors", str(source)]
    command += ["--output", str(output), "--memory", config.memory, "--workers", str(config.workers)]
    if config.method == "index":
        command += ["--index", config.index, "--probes", str(config.probes), "--candidates", str(config.candidates)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


def _shaken(config: Config, source: Path, root: Path, length: float) -> dict[str, float]:
    chance = random.Random(config.seed)
    killed = 0
    output, log = root / "shaken", root / "shaken.txt"
    process = _start(config, source, output, log)
    for _ in range(config.kills):
        try:
            process.wait(timeout=chance.uniform(0.15, 0.9) * length / config.kills)
            break
        except subprocess.TimeoutExpired:
            for one in tree(process.pid):
                try:
                    os.kill(one, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            process.wait()
            killed += 1
            print(f"killed {killed}: {len(list(output.glob('tiles-*/*')))} files of units there", flush=True)
            process = _start(config, source, output, log)
    if process.wait():
        raise RuntimeError(f"the search that was killed failed when it was run again: see {log}")
    files = sorted(p.name for p in (root / "calm").iterdir() if p.is_file() and p.name != "timings.jsonl")
    differ = [n for n in files if not (output / n).exists() or (output / n).read_bytes() != _bytes(root, n)]
    return {"kills": killed, "files_compared": len(files), "files_differ": len(differ)}


def _bytes(root: Path, name: str) -> bytes:
    return (root / "calm" / name).read_bytes()
