"""Neighbours of a million sketches: seconds, memory and recall of jobs.neighbours, beside what its plan foretold.

The coordinates are made up; they stand in for pictures' Grams in their principal directions and are like the measured
ones in this: the variance of direction i falls as i^-1.6, the first three ten times higher (together 95 % of it); 20
near-duplicates a source image, with a tenth of the variance among them; log-normal lengths (sigma 0.5) and one in a
thousand 3 to 5 times longer, so that a few hubs fill the furthest lists; the directions leave out 3 % of the variance.
They are coded as jobs.sketch codes pictures. What real pictures give is not known from them.

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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.artifacts import artifact
from pipeline.style import descriptors
from pipeline.style.codec import COSINE, Codec, codec_for
from pipeline.style.vectors import groups, schema

PART = 50_000
"""Vectors of a part, a multiple of CROPS."""
CROPS = 20
"""Near-duplicates of a source."""
REST = 0.03
"""Share of the variance that the directions leave out."""


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


def make(folder: Path, config: Config) -> None:
    """The vectors as a descriptor artifact."""
    artifact.begin(
        str(folder),
        "descriptors",
        descriptors.VERSION,
        {"dataset": "synthetic", "split": "train", "field": "target", "weights": "none"},
        {"n": config.n, "bytes": config.bytes, "d": config.d, "seed": config.seed},
    )
    form = (config.bytes, "uint8") if config.bytes else (config.d, "<f4")
    length = 2 * (config.bytes - 4) if config.bytes else config.d
    made: Codec | None = None
    starts = range(0, config.n, PART)
    for part, start in enumerate(starts):
        x = coordinates(min(PART, config.n - start), length, np.random.default_rng([config.seed, part]))
        if config.bytes:
            norms = np.linalg.norm(x.astype(np.float64), axis=1) / (1 - REST) ** 0.5
            made = made or codec_for(x / norms[:, None], float(norms.mean()), 8 * (config.bytes - 4), COSINE)
            x = np.concatenate([made.encode(x[i : i + 4096], norms[i : i + 4096]) for i in range(0, len(x), 4096)])
        rows = ((f"{start + i:09d}", row, "") for i, row in enumerate(x))
        artifact.publish_rows(str(folder), part, schema(*form), groups(rows, *form))
    notes: dict[str, Any] = {"bad": 0, "weights": "none", "random_weights": True}
    if made is not None:
        notes["codec"] = asdict(made)
    artifact.finish(str(folder), range(len(starts)), notes)


def coordinates(count: int, dimension: int, generator: np.random.Generator) -> np.ndarray:
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
    command = [sys.executable, "-m", "jobs.neighbours", config.method, "--descriptors", str(source)]
    command += ["--output", str(output), "--memory", config.memory, "--workers", str(config.workers)]
    if config.method == "index":
        command += ["--index", config.index, "--probes", str(config.probes), "--candidates", str(config.candidates)]
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
