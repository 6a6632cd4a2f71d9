"""How busy others are: a process that computes counts as about one core, this process's own work does not."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from jobs.bench.harness import others
from jobs.bench.harness.others import Others

SPIN = "import time\nend = time.time() + 60\nwhile time.time() < end: pass"


@pytest.fixture
def spinning() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", SPIN]) as process:
        time.sleep(0.5)
        yield
        process.kill()


def clock(monkeypatch: pytest.MonkeyPatch, everything: list[float], own: list[float], at: list[float]) -> None:
    for name, values in (("_all", everything), ("_own", own)):
        monkeypatch.setattr(others, name, iter(values).__next__)
    monkeypatch.setattr(others.time, "perf_counter", iter(at).__next__)


def test_own_time_is_taken_off_and_the_rest_is_in_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, [100.0, 107.0], [10.0, 12.0], [0.0, 4.0])
    assert Others().cores() == (7 - 2) / 4
    clock(monkeypatch, [100.0, 101.0], [10.0, 12.0], [0.0, 4.0])
    assert Others().cores() == 0, "clocks of another grain: never below 0"
    clock(monkeypatch, [float("nan")] * 2, [10.0, 12.0], [0.0, 4.0])
    cores = Others().cores()
    assert cores != cores, "a system that does not tell is not a quiet one"


def test_another_process_is_seen(spinning: None) -> None:
    seen = Others()
    time.sleep(2)
    assert seen.cores() > 0.3, "it has a core, or its share of a busy machine"
