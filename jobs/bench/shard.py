"""The shard writer against webdataset's TarWriter, and two Ray workers against two plain processes.

ratio_to_tarwriter: samples/s of `tars.write_shard` (SHA-256 of each image and of the tar, index, header and end-marker
check of every image, fsync and rename) over those of webdataset.TarWriter (no fsync) writing the same samples, already
in memory, to the same disk, each in one process, alternating; the median of the rounds' ratios. Before each
run the disk's queue is emptied: neither waits for the other's bytes. Our writer hashes and writes on a thread of its
own, TarWriter has one thread: the ratio depends on whether a second core is free. Rounds beside other work are done
again, and others_cores says how busy other processes were in the rounds that count. ratio_synced: TarWriter's file
fsynced as well. ratio_decode: the same with every image decoded. scaling_2_workers: the gain of two Ray workers over
one, divided by the gain of two plain processes of the same kernel over one.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from jobs.bench.harness.others import Others
from jobs.bench.harness.scaling import scaling
from pipeline.data import samples, tars
from pipeline.data.samples import Field

FIELDS = {"target": Field("target")}


@dataclass(frozen=True)
class Config:
    """How much to write."""

    samples: int = 2000
    """Per round; 30 KB JPEG and 300-byte JSON each."""
    rounds: int = 5
    quiet: float = 0.15
    """A round counts if other processes used at most so many cores."""
    tries: int = 20
    """Rounds at most; if too few of them were quiet, the quietest count."""
    shards: int = 8
    """For the scaling, an even number: each of `samples` samples."""
    folder: str = ""
    """Where to write; empty for the system's temporary folder."""


def photograph(seed: int, wanted: int = 30_000) -> bytes:
    """A JPEG of about `wanted` bytes (within 5 %): coarse noise, with its quality chosen to fit."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    picture = coarse.resize((256, 256), Image.Resampling.BICUBIC)
    fitting = min((_jpeg(picture, quality) for quality in range(60, 100)), key=lambda data: abs(len(data) - wanted))
    assert abs(len(fitting) - wanted) < 0.05 * wanted
    return fitting


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=quality)
    return sink.getvalue()


class Memory:
    """Reads samples from memory: the writer is measured, not the disk it reads from."""

    def __init__(self) -> None:
        self.pictures = [photograph(seed) for seed in range(16)]

    def __call__(self, path: str, member: str) -> bytes:
        return self.pictures[int(path) % len(self.pictures)]


def entries(count: int) -> list[samples.Entry]:
    """Names so long that each sample's JSON has about 300 bytes."""
    return [samples.Entry(f"{i:06d}".rjust(240, "n"), {"target": str(i)}, "label") for i in range(count)]


def _fresh(root: str) -> None:
    """Neither side pays for the removal of the file it writes, nor for the other's bytes."""
    for path in [Path(root) / "theirs.tar", *Path(root).glob("train/*")]:
        path.unlink(missing_ok=True)
    os.sync()


def _ours(root: str, listed: list[samples.Entry], read: samples.Reader, decode: bool = False) -> float:
    _fresh(root)
    began = time.perf_counter()
    tars.write_shard(root, "train", 0, 0, listed, read, tars.Treatment(FIELDS, decode=decode, readers=1 + decode))
    return len(listed) / (time.perf_counter() - began)


def _theirs(root: str, listed: list[samples.Entry], read: samples.Reader) -> tuple[float, float]:
    """Samples/s without and with an fsync at the end."""
    import webdataset

    notes = [{"source": e.source, "label": e.label, "width": 256, "height": 256} for e in listed]
    _fresh(root)
    began = time.perf_counter()
    with open(Path(root) / "theirs.tar", "wb") as sink:
        with webdataset.TarWriter(sink, mtime=0) as writer:
            for i, (entry, note) in enumerate(zip(listed, notes, strict=True)):
                writer.write({"__key__": f"{i:08d}", "target.jpg": read(entry.files["target"], "target"), "json": note})
        sink.flush()
        written = time.perf_counter()
        os.fsync(sink.fileno())
    return len(listed) / (written - began), len(listed) / (time.perf_counter() - began)


def make(root: str, samples: int) -> Callable[[int], int]:
    """The kernel of the scaling figure: one shard from memory, on a Ray worker or in a plain process."""
    read, listed = Memory(), entries(samples)

    def work(shard: int) -> int:
        tars.write_shard(root, "train", shard, 0, listed, read, tars.Treatment(FIELDS))
        return shard

    return work


Rates = tuple[tuple[float, float], float]
"""Samples/s of a round: TarWriter's without and with an fsync, ours."""


def _rounds(root: str, listed: list[samples.Entry], read: samples.Reader, config: Config) -> tuple[list[Rates], float]:
    """(the rounds that count, cores that others used in them: the median)."""
    tried: list[tuple[float, Rates]] = []
    for number in range(config.tries + 1):
        others = Others()
        rates = _theirs(root, listed, read), _ours(root, listed, read)
        if number:  # the first warms up
            tried.append((others.cores(), rates))
        if sum(not busy > config.quiet for busy, _ in tried) == config.rounds:  # a system that does not tell is quiet
            break
    kept = sorted(tried, key=lambda one: one[0])[: config.rounds]
    return [rates for _, rates in kept], statistics.median(busy for busy, _ in kept)


def run(config: Config) -> dict[str, float]:
    """The figures of the module's docstring, and the rates they come from."""
    read, listed = Memory(), entries(config.samples)
    with tempfile.TemporaryDirectory(dir=config.folder or None) as root:
        rounds, others = _rounds(root, listed, read, config)
        decoded = _ours(root, listed[: max(1, config.samples // 4)], read, decode=True)
        gains = scaling(make, [root, config.samples], config.shards)
    return {
        "ratio_to_tarwriter": statistics.median(ours / theirs for (theirs, _), ours in rounds),
        "others_cores": others,
        "ratio_synced": statistics.median(ours / theirs for (_, theirs), ours in rounds),
        "ratio_decode": decoded / statistics.median(theirs for (theirs, _), _ in rounds),
        "scaling_2_workers": gains["scaling_2"],
        "gain_2_processes": gains["gain_2_processes"],
        "samples_per_s": statistics.median(ours for _, ours in rounds),
        "tarwriter_samples_per_s": statistics.median(theirs for (theirs, _), _ in rounds),
    }
