"""Units of work: a worker waits for others', but not for ever."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.neighbours import units
from pipeline.neighbours.units import load_arrays, save_arrays


@dataclass(frozen=True)
class Plan(units.Plan):
    def units(self, blocks: list[int]) -> list[units.Item]:
        return [("first", 0), ("second", 0), ("second", 1), ("lists", 0)]


class Worker(units.Worker):
    def __init__(self, plan: Plan) -> None:
        self.plan, self.did = plan, list[units.Item]()

    def first(self, number: int) -> None:
        self.did.append(("first", number))
        save_arrays(self.plan.path(("first", number)), x=np.arange(3))

    def second(self, number: int) -> None:
        self.wait(("first", 0))
        self.did.append(("second", number))
        save_arrays(self.plan.path(("second", number)), x=load_arrays(self.plan.path(("first", 0)))["x"] * number)

    def lists(self, _: int) -> None:
        self.wait(("second", 0), ("second", 1))
        save_arrays(self.plan.path(("lists", 0)), x=load_arrays(self.plan.path(("second", 1)))["x"])


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan("", str(tmp_path), 1, 1, 1, 1)


def test_units_that_nobody_does_are_done_by_who_waits(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the host that had them is lost, and every other is taken by one that waits."""
    monkeypatch.setattr(units, "WAIT_SECONDS", 0.3)
    worker, began = Worker(plan), time.monotonic()
    assert worker.run(("lists", 0))["what"] == "lists"
    assert sorted(worker.did) == [("first", 0), ("second", 0), ("second", 1)]
    assert time.monotonic() - began >= 3 * 0.3  # it has waited for each
    assert load_arrays(plan.path(("lists", 0)))["x"].tolist() == [0, 1, 2]


def test_units_that_another_does_are_waited_for(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "WAIT_SECONDS", 2.5)
    other, worker = Worker(plan), Worker(plan)

    def slowly() -> None:
        for item in plan.units([])[:3]:
            time.sleep(1)  # each in time, all of them not
            other.run(item)

    thread = threading.Thread(target=slowly)
    thread.start()
    worker.run(("lists", 0))
    thread.join()
    assert worker.did == [] and len(other.did) == 3


def test_a_damaged_unit_is_to_be_done_again(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    worker = Worker(plan)
    for item in plan.units([]):
        worker.run(item)
    assert plan.items([]) == []
    for item in plan.units([]):
        path = Path(plan.path(item))
        whole = path.read_bytes()
        for damaged in (whole[:-5], whole.replace(b"NUMPY", b"NUMPI"), b""):
            path.write_bytes(damaged)
            assert plan.items([]) == [item] and not path.exists()
            assert f"{path} is damaged: it is made again" in capsys.readouterr().out
        path.write_bytes(whole)
    assert plan.items([]) == []


def test_a_sealed_file_is_known_by_its_hash(plan: Plan, tmp_path: Path) -> None:
    def publish(data: bytes) -> None:
        draft = tmp_path / ".tmp-x"
        draft.write_bytes(data)
        units.publish_sealed(str(tmp_path / "part.index"), str(draft))

    def there() -> Any:
        units.remove_damaged(str(tmp_path))
        return (tmp_path / "part.index").exists()

    publish(b"0123456789")
    assert there()
    for damaged in (b"012345678", b"0123456788"):
        (tmp_path / "part.index").write_bytes(damaged)
        assert not there()
        publish(b"0123456789")
        assert there()
