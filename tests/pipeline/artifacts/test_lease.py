"""One writer per folder: nobody else enters, a dead one is followed by one alone, a lost lease is left to its heir."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts import lease, storage

DEAD = {"host": socket.gethostname(), "machine": lease._machine(), "pid": 2**22 + 1, "started": "1", "id": "x"}
"""A process of this machine that is gone (numbers end below 2**22)."""


def leave(folder: str, number: int = 0, **changes: Any) -> None:
    storage.publish_json(f"{folder}/.lease.{number}", {**DEAD, "renewed": time.time(), **changes})


def left(folder: str) -> list[str]:
    return [name for name in storage.names(folder) if name.startswith(".lease")]


def content(folder: str) -> dict[str, Any]:
    [name] = left(folder)
    found: dict[str, Any] = json.loads(storage.read(f"{folder}/{name}"))
    return found


@pytest.fixture(params=["here", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "here":
        return str(tmp_path)
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"


def trial(folder: str, contenders: int) -> tuple[int, int]:
    """(most that were inside at once, how many entered) of threads that all want a dead lease."""
    leave(folder)
    inside: list[int] = []
    seen: list[int] = []
    together = threading.Barrier(contenders)

    def contend(me: int) -> None:
        together.wait()
        try:
            with lease.lease(folder):
                inside.append(me)
                seen.append(len(inside))
                time.sleep(0.002)
                seen.append(len(inside))
                inside.remove(me)
        except RuntimeError as error:
            assert "is being written by process" in str(error)

    threads = [threading.Thread(target=contend, args=(i,)) for i in range(contenders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(seen, default=0), len(seen) // 2


def test_of_many_that_want_a_dead_lease_one_alone_enters(tmp_path: Path) -> None:
    """A lease that is removed and then created lets two in, in one trial of fourteen."""
    found = [trial(f"{tmp_path}/{i}", 4) for i in range(250)]
    assert max(most for most, _ in found) == 1
    assert all(entered for _, entered in found)


def test_one_alone_enters_on_s3(s3: str) -> None:
    assert [trial(f"{s3}/contended/{i}", 3)[0] for i in range(5)] == [1] * 5


def test_who_holds_it_is_named_and_nothing_is_left(folder: str) -> None:
    with lease.lease(folder) as held:
        mine = content(folder)
        assert mine["pid"] == os.getpid() and mine["host"] == socket.gethostname() and not held.lost
        with pytest.raises(RuntimeError, match=f"process {os.getpid()} on {socket.gethostname()}"), lease.lease(folder):
            pass
        assert content(folder) == mine
    assert left(folder) == []
    with pytest.raises(KeyError), lease.lease(folder):
        raise KeyError
    assert left(folder) == []


def test_the_dead_are_followed_at_once_and_those_elsewhere_after_a_minute(folder: str) -> None:
    leave(folder, 3)
    with lease.lease(folder):
        assert left(folder) == [".lease.4"]  # not the dead one's file again: that may be what another is looking at
    leave(folder, 0, machine="another", renewed=time.time() - 50)
    with pytest.raises(RuntimeError, match="is being written"), lease.lease(folder):
        pass
    leave(folder, 0, machine="another", renewed=time.time() - 70)
    with lease.lease(folder):
        assert content(folder)["pid"] == os.getpid()
    # A process of this machine that lives holds it, though it stood still for an hour.
    leave(folder, 0, pid=os.getpid(), started=lease.process_started(os.getpid()), renewed=time.time() - 3600)
    with pytest.raises(RuntimeError, match="is being written"), lease.lease(folder):
        pass


def test_a_number_that_another_process_has_now_holds_nothing(tmp_path: Path) -> None:
    leave(str(tmp_path), 0, pid=os.getpid(), started="1")  # its holder is gone, and its number was given to this one
    with lease.lease(str(tmp_path)):
        assert left(str(tmp_path)) == [".lease.1"]


def test_who_acts_on_what_was_there_before_steps_back(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It saw number 3 of a dead one, and is slow; meanwhile that was taken over, released, and begun anew at 0."""
    with lease.lease(folder):
        there, seen = lease._there, [{3: {**DEAD, "renewed": time.time()}}]
        monkeypatch.setattr(lease, "_there", lambda where: seen.pop() if seen else there(where))
        with pytest.raises(RuntimeError, match="is being written"), lease.lease(folder):
            pass
        assert left(folder) == [".lease.0"]


def test_a_half_written_lease_counts_as_new(tmp_path: Path) -> None:
    (tmp_path / ".lease.0").write_bytes(b"")
    with pytest.raises(RuntimeError, match="is being written"), lease.lease(str(tmp_path)):
        pass
    os.utime(tmp_path / ".lease.0", (0, 0))
    with lease.lease(str(tmp_path)):
        assert left(str(tmp_path)) == [".lease.1"]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_is_renewed(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.4)
    with lease.lease(folder) as held:
        first = content(folder)
        until(lambda: content(folder)["renewed"] > first["renewed"] + 0.15)
        assert {**content(folder), "renewed": 0} == {**first, "renewed": 0}
        assert not held.lost


def test_a_lost_lease_is_left_to_its_heir(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that stood still, taken over from another machine: it neither writes nor removes the heir's."""
    renew, woken = lease.Lease._renew, threading.Event()
    monkeypatch.setattr(lease.Lease, "_renew", lambda held: woken.wait(20))  # it stands still
    with pytest.raises(RuntimeError, match="another has taken over"), lease.lease(folder) as lost:
        monkeypatch.setattr(lease, "LEASE_SECONDS", 0.2)
        monkeypatch.setattr(lease, "_machine", lambda: "another")
        time.sleep(0.3)
        with lease.lease(folder) as heir:
            before = content(folder)
            assert before["machine"] == "another"
            renew(lost)  # it wakes
            woken.set()
            assert lost.lost and not heir.lost
            lost.end()
            assert content(folder) == before
        assert left(folder) == []
        monkeypatch.setattr(lost, "end", lambda: None)


def test_a_file_that_another_made_under_the_same_name_is_not_removed(folder: str) -> None:
    """Numbers begin anew after a release: the file of that name may be a third's by now."""
    lost = lease.Lease(folder)
    storage.remove(f"{folder}/.lease.0")  # taken over, and released
    with lease.lease(folder):
        mine = content(folder)
        assert left(folder) == [".lease.0"]
        lost.end()
        assert content(folder) == mine


def test_a_killed_process_is_followed_at_once(tmp_path: Path) -> None:
    holder = "import time; from pipeline.artifacts.lease import Lease; held = Lease({!r}); print(1, flush=True)"
    holder = holder.format(str(tmp_path)) + "; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3])
    assert process.stdout is not None and process.stdout.readline()
    with pytest.raises(RuntimeError, match=f"process {process.pid}"), lease.lease(str(tmp_path)):
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    with lease.lease(str(tmp_path)):
        assert content(str(tmp_path))["pid"] == os.getpid()
