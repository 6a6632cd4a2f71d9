"""Neighbours of a million sketches: seconds, memory and recall of jobs.neighbours --method index.

The vectors are made up; they stand in for pictures' Gram sketches after PCA and are like the measured ones in this: the
variance of component i falls as i^-1.6, the first three ten times higher (together 95 % of it); 20 near-duplicates a
source image, with a tenth of the variance among them; log-normal lengths (sigma 0.5) and one in a thousand 3 to 5 times
longer, so that a few hubs fill the furthest lists. What real pictures give is not known from them.

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

import numpy as np
import pyarrow as pa

from pipeline import artifacts, descriptors

PART = 50_000
"""Vectors of a part, a multiple of CROPS."""
CROPS = 20
"""Near-duplicates of a source."""


@dataclass(frozen=True)
class Config:
    """Sizes of the measurement."""

    folder: str
    """Where vectors and lists are put, and kept: 4 n d bytes of vectors, up to three times that while searching."""
    n: int = 1_000_000
    """Vectors."""
    d: int = 128
    """Length of a vector."""
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
    """Returns seconds, peak_bytes, recall5, recall13_far, share_scanned, and with kills files_compared, files_differ.

    Raises:
        RuntimeError: a search that was not killed failed.
    """
    root = Path(config.folder).absolute()
    source = root / f"sketches-{config.n}-{config.d}-{config.seed}"
    if not (source / "card.json").exists():
        make(source, config)
    began = time.monotonic()
    log = root / "calm.txt"
    process = _start(config, source, root / "calm", log)
    peak = [0]
    watch = threading.Thread(target=_watch, args=(process, peak), daemon=True)
    watch.start()
    if process.wait():
        raise RuntimeError(f"the search failed: see {log}")
    seconds = time.monotonic() - began
    watch.join()
    notes = artifacts.load_card(str(root / "calm"), "neighbours")["notes"]
    print(json.dumps(notes), flush=True)
    result = {
        "n": config.n,
        "d": config.d,
        "seconds": seconds,
        "peak_bytes": peak[0],
        "recall5": notes["recall_near5"],
        "recall13_far": notes["recall_far13"],
        "share_scanned": notes["far_scanned_share"],
    }
    return {**result, **(_shaken(config, source, root, seconds) if config.kills else {})}


def make(folder: Path, config: Config) -> None:
    """The vectors as a descriptor artifact."""
    artifacts.begin(
        str(folder),
        "descriptors",
        descriptors.VERSION,
        {"dataset": "synthetic", "split": "train", "field": "target", "weights": "none"},
        {"n": config.n, "d": config.d, "seed": config.seed},
    )
    schema, rows = descriptors.schema(config.d), descriptors.group_rows(config.d)
    starts = range(0, config.n, PART)
    for part, start in enumerate(starts):
        x = sketches(min(PART, config.n - start), config.d, np.random.default_rng([config.seed, part]))
        keys = [f"{i:09d}" for i in range(start, start + len(x))]
        groups = (
            pa.table(
                [keys[i : i + rows], _cells(x[i : i + rows]), pa.nulls(len(x[i : i + rows]), pa.string())],
                schema=schema,
            )
            for i in range(0, len(x), rows)
        )
        artifacts.publish_rows(str(folder), part, schema, groups)
    notes = {"bad": 0, "weights": "none", "random_weights": True}
    artifacts.finish(str(folder), range(len(starts)), notes)


def _cells(x: np.ndarray) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(4 * x.shape[1]), len(x), [None, pa.py_buffer(np.ascontiguousarray(x))])


def sketches(count: int, dimension: int, generator: np.random.Generator) -> np.ndarray:
    """float32 count dimension, as the module's docstring says."""
    variance = np.arange(1, dimension + 1) ** -1.6
    variance[:3] *= 10
    sources = -(-count // CROPS)

    def normal(rows: int) -> np.ndarray:
        return generator.standard_normal((rows, dimension), dtype=np.float32)

    x = np.repeat(normal(sources), CROPS, axis=0)[:count] * np.float32(0.9**0.5)
    x += normal(count) * np.float32(0.1**0.5)
    x *= np.sqrt(variance, dtype=np.float64).astype(np.float32)
    # Crops of one image are nearly as long as each other; an outlier is an outlier by itself.
    length = np.repeat(generator.lognormal(0, 0.5, sources), CROPS)[:count]
    length *= np.where(generator.random(count) < 0.001, generator.uniform(3, 5, count), 1)
    return x * length[:, None].astype(np.float32)


def _start(config: Config, source: Path, output: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jobs.neighbours", "--descriptors", str(source), "--output", str(output)]
    command += ["--method", "index", "--index", config.index, "--probes", str(config.probes)]
    command += ["--candidates", str(config.candidates), "--workers", str(config.workers)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


def _tree(root: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue  # it ended meanwhile
    below = {root}
    while grown := {child for child, parent in parents.items() if parent in below} - below:
        below |= grown
    return sorted(below)


def _resident(process: int) -> tuple[int, int]:
    """Bytes of a process that are in memory: its own and mapped files', and of shared memory."""
    try:
        lines = (line.split() for line in Path(f"/proc/{process}/status").read_text().splitlines())
    except OSError:
        return 0, 0
    found = {line[0]: 1024 * int(line[1]) for line in lines if line and line[0].startswith("Rss")}
    return found.get("RssAnon:", 0) + found.get("RssFile:", 0), found.get("RssShmem:", 0)


def _watch(process: subprocess.Popen[bytes], peak: list[int]) -> None:
    """The largest sum over the tree; shared memory counts once, mapped files in every process that maps them."""
    while process.poll() is None:
        sizes = [_resident(p) for p in _tree(process.pid)]
        peak[0] = max(peak[0], sum(own for own, _ in sizes) + max(shared for _, shared in sizes))
        time.sleep(0.5)


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
            for one in _tree(process.pid):
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
