"""Processes from outside: those below one, and the memory they hold."""

from __future__ import annotations

import multiprocessing
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def tree(root: int) -> list[int]:
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


def command_line(process: int) -> bytes:
    """Its words, each ended by a zero byte; empty where it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def resident(process: int) -> tuple[int, int]:
    """Bytes of a process that are in memory: its own and mapped files', and of shared memory."""
    try:
        lines = (line.split() for line in Path(f"/proc/{process}/status").read_text().splitlines())
    except OSError:
        return 0, 0
    found = {line[0]: 1024 * int(line[1]) for line in lines if line and line[0].startswith("Rss")}
    return found.get("RssAnon:", 0) + found.get("RssFile:", 0), found.get("RssShmem:", 0)


def watch(process: subprocess.Popen[bytes], peak: list[int]) -> None:
    """Until the process ends: `peak[0]` is the largest sum over its tree; shared memory counts once, mapped files in
    every process that maps them."""
    while process.poll() is None:
        sizes = [resident(p) for p in tree(process.pid)]
        peak[0] = max(peak[0], sum(own for own, _ in sizes) + max(shared for _, shared in sizes))
        time.sleep(0.5)


def peak_of(work: Callable[..., object], *arguments: object) -> int:
    """KiB: the largest resident memory of a fresh process that does `work(*arguments)`."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return int(pool.apply(_do, (work, *arguments)))


def _do(work: Callable[..., object], *arguments: object) -> int:
    work(*arguments)
    # Not getrusage: its maximum is inherited through exec, so that a fresh process would show its parent's.
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
