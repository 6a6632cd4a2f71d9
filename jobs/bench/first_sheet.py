"""CPU seconds from the command to a family's first sheet of pictures: `jobs.run FAMILY tiny`, in one process.

Sharding, and descriptors, neighbours or features where the family needs them, are counted. Sources are built in, but
for pix2pixHD: a few made-up maps of objects. `--write FILE` keeps the figures for the table of families in
models/README.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import models
from pipeline.artifacts import storage
from pipeline.data.sources.colourings import COLOURINGS, layout

SOURCES = {
    "pix2pixhd": ("--source", "OBJECTS"),
    "vqa": ("--source", "shapes", "--option", "count", "64", "--grid-features.size", "64"),
}
"""Where it is not the demo's photographs."""


@dataclass(frozen=True)
class Config:
    """What is measured."""

    families: tuple[str, ...] = ()
    """None: all."""
    write: str = ""
    """JSON file for the figures; none: they are only printed."""


def run(config: Config) -> dict[str, float]:
    """CPU seconds, by family.

    Raises:
        RuntimeError: a run that made no sheet.
    """
    found = {}
    for name in config.families or models.names():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = _until_the_first(name, folder)
        print(f"{name}: {found[name]:.0f} CPU seconds", flush=True)
    if config.write:
        told = {"date": time.strftime("%Y-%m-%d"), "command": "python -m jobs.bench first-sheet", "cpu_seconds": found}
        storage.publish_json(storage.absolute(config.write, "--write"), told)
    return found


def _until_the_first(name: str, folder: str) -> float:
    source = SOURCES.get(name, ("--source", "demo"))
    if "OBJECTS" in source:
        _objects(Path(folder, "objects"))
    options = [f"{folder}/objects" if word == "OBJECTS" else word for word in source]
    line = [sys.executable, "-m", "jobs.run", name, "tiny", *options, "--weights", "random", "--tracking", "off"]
    line += ["--workers", "0", "--run.workers", "0", "--run.threads", "1", "--output", f"{folder}/run"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seconds = 0.0
    while not list(Path(folder, "run", "train", "pictures").glob("*.png")):
        if process.poll() is not None:
            raise RuntimeError(f"{' '.join(line)} made no sheet:\n{process.communicate()[0][-2000:]}")
        seconds = _spent(process.pid)
        time.sleep(0.1)
    process.kill()
    process.communicate()
    return round(seconds, 1)


def _spent(process: int) -> float:
    """CPU seconds of a process, all its threads."""
    words = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _objects(folder: Path) -> None:
    """Ten pictures with maps of their classes and objects."""
    for split, numbers in (("train", range(8)), ("val", range(8, 10))):
        for kind in ("labels", "instances", "target"):
            (folder / split / kind).mkdir(parents=True)
        for number in numbers:
            ids = layout(number)
            for kind, array in (("labels", ids), ("instances", ids), ("target", COLOURINGS[0][ids])):
                Image.fromarray(np.ascontiguousarray(array)).save(folder / split / kind / f"{number}.png")
