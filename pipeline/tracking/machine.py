"""What the machine is doing, under the names that MLflow's system-metrics page knows (`system/...`).

Read from /proc: no further package, and no monitor that gives up when the tracking server is away for a moment.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

MEGABYTE = 1e6


class Monitor:
    """Readings of this host; CPU use is the mean since the reading before. Off Linux only the disk is read."""

    def __init__(self, folder: str = "/") -> None:
        self._folder = folder
        self._busy, self._total = _cpu_ticks()

    def read(self) -> dict[str, float]:
        disk = shutil.disk_usage(self._folder)
        values = {
            "system/disk_usage_megabytes": disk.used / MEGABYTE,
            "system/disk_usage_percentage": 100 * disk.used / disk.total,
        }
        busy, total = _cpu_ticks()
        if total > self._total:
            values["system/cpu_utilization_percentage"] = 100 * (busy - self._busy) / (total - self._total)
        self._busy, self._total = busy, total
        memory = _fields("/proc/meminfo")  # kB
        if "MemTotal" in memory and "MemAvailable" in memory:
            used = memory["MemTotal"] - memory["MemAvailable"]
            values["system/system_memory_usage_megabytes"] = used * 1024 / MEGABYTE
            values["system/system_memory_usage_percentage"] = 100 * used / memory["MemTotal"]
        own = _fields("/proc/self/status")
        if "VmRSS" in own:
            values["system/process_memory_megabytes"] = own["VmRSS"] * 1024 / MEGABYTE
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # never start CUDA for a reading
            for i in range(torch.cuda.device_count()):
                free, whole = torch.cuda.mem_get_info(i)
                values[f"system/gpu_{i}_memory_usage_megabytes"] = (whole - free) / MEGABYTE
                values[f"system/gpu_{i}_memory_usage_percentage"] = 100 * (whole - free) / whole
        return values


def _cpu_ticks() -> tuple[int, int]:
    """(busy, total) clock ticks of all cores since boot."""
    if not Path("/proc/stat").exists():
        return 0, 0
    ticks = [int(t) for t in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)


def _fields(path: str) -> dict[str, int]:
    """`Name:   123 kB` lines; empty where there is no such file."""
    file = Path(path)
    if not file.exists():
        return {}
    lines = (line.split() for line in file.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) >= 2 and words[1].isdigit()}
