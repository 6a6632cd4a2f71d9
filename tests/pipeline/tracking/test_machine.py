"""Readings of the machine against the files that they are of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.tracking import machine


def test_cpu_use_is_the_share_of_busy_ticks_since_the_reading_before(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([(100, 1000), (130, 1200), (130, 1200), (150, 1220)])
    monkeypatch.setattr(machine, "_cpu_ticks", lambda: next(ticks))
    name, monitor = "system/cpu_utilization_percentage", machine.Monitor()
    assert monitor.read()[name] == pytest.approx(15.0)
    assert name not in monitor.read()  # no time has passed
    assert monitor.read()[name] == pytest.approx(100.0)


def test_idle_is_what_waits_for_a_disk_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: True)
    monkeypatch.setattr(Path, "read_text", lambda self: "cpu  10 1 5 70 14 0 0 0 3 3\ncpu0 1 1 1 1 1 1 1 1\n")
    assert machine._cpu_ticks() == (16, 100)  # guests are counted as users already


def test_memory_and_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = {"/proc/meminfo": {"MemTotal": 8000, "MemAvailable": 2000}, "/proc/self/status": {"VmRSS": 500}}
    monkeypatch.setattr(machine, "_fields", lambda path: told[path])
    found = machine.Monitor(str(tmp_path)).read()
    assert found["system/system_memory_usage_megabytes"] == pytest.approx(6000 * 1024 / 1e6)
    assert found["system/system_memory_usage_percentage"] == 75.0
    assert found["system/process_memory_megabytes"] == pytest.approx(0.512)
    assert found["system/disk_usage_megabytes"] == pytest.approx(shutil.disk_usage(tmp_path).used / 1e6, rel=0.05)
    assert 0 < found["system/disk_usage_percentage"] <= 100


def test_lines_of_proc(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython 3\nVmRSS:\t  1234 kB\nThreads:\t5\n")
    assert machine._fields(str(tmp_path / "status")) == {"VmRSS": 1234, "Threads": 5}
    assert machine._fields(str(tmp_path / "none")) == {}
