"""How busy other processes keep the machine: what a comparison of one process with another in turns depends on, where
one of them uses a second core and the other does not."""

from __future__ import annotations

import os
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class Others:
    """From its making on, the CPU time of all processes but this one and its children, in cores."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), _all(), _own()

    def cores(self) -> float:
        """0 on a quiet machine; not a number where the system does not tell (no /proc)."""
        began, everything, own = self._began
        spent = (_all() - everything) - (_own() - own)
        return max(0.0, spent) / (time.perf_counter() - began)


def _all() -> float:
    """Seconds of CPU time since the system's start: user, nice, system, interrupts; not idle, not waiting for disks."""
    try:
        line = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return float("nan")
    user, nice, system, _, _, irq, softirq = map(int, line[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def _own() -> float:
    return sum(os.times()[:4])
