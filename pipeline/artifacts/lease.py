"""One writer per output folder: numbered lease files, each created only if absent, renewed while its holder lives.

A lease that ended without being removed is taken over by creating the next number, which only one can do: `.lease.0`,
then `.lease.1`, and so on. Who has created one looks once more, and goes on only if it is the one live lease: numbers
begin anew after a release, and somebody may still act on what was there before. A holder renews and removes its own
file only.
"""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from pipeline.artifacts.storage import _fs, is_remote, join, names, publish, read, remove

LEASE_SECONDS = 60.0
"""A lease that has not been renewed for so long is taken over; it is renewed four times as often."""
PREFIX = ".lease."
TRIES = 100
"""Attempts before a folder that many contend for is given up."""


class _File(Protocol):
    """A lease file of our own."""

    def __init__(self, path: str, data: bytes) -> None: ...

    def renew(self, data: bytes) -> bool:
        """False where it is no longer there, or another's. Raises OSError where the store does not answer."""

    def remove(self) -> None: ...


class _Local:
    """Written through one descriptor: where the file was removed, that reaches nobody."""

    def __init__(self, path: str, data: bytes) -> None:
        """Raises FileExistsError."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path = Path(path)
        self.fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        try:
            os.pwrite(self.fd, data, 0)
        except OSError:  # a full disk
            self.remove()
            raise

    def _ours(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self.fd), self.path.stat())
        except FileNotFoundError:
            return False

    def renew(self, data: bytes) -> bool:
        os.pwrite(self.fd, data, 0)  # of the same length as before
        return self._ours()

    def remove(self) -> None:
        if self._ours():
            self.path.unlink(missing_ok=True)
        os.close(self.fd)


class _S3:
    """Conditional writes: If-None-Match creates it, If-Match (what we wrote last) renews it."""

    def __init__(self, path: str, data: bytes) -> None:
        """Raises FileExistsError."""
        self.path, self.tag = path, ""
        try:
            self._put(data, IfNoneMatch="*")
        except OSError as error:
            if _refused(error) and not self._holds(data):
                raise FileExistsError(path) from error
            if not self.tag:
                raise

    def _put(self, data: bytes, **condition: str) -> None:
        fs, inner = _fs(self.path)
        bucket, key, _ = fs.split_path(inner)
        self.tag = fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)["ETag"]

    def _holds(self, data: bytes) -> bool:
        """Whether a write that was refused had arrived: its answer was lost, and it was sent again."""
        fs, inner = _fs(self.path)
        try:
            tag = fs.info(inner)["ETag"]
            if read(self.path) != data:
                return False
        except FileNotFoundError:
            return False
        self.tag = tag
        return True

    def renew(self, data: bytes) -> bool:
        try:
            self._put(data, IfMatch=self.tag)
        except OSError as error:
            if isinstance(error, FileNotFoundError) or _refused(error):
                return self._holds(data)
            raise
        return True

    def remove(self) -> None:
        fs, inner = _fs(self.path)
        with suppress(FileNotFoundError):
            if fs.info(inner)["ETag"] == self.tag:
                fs.rm_file(inner)


class _Object:
    """Another store, which can create exclusively; what is there is looked at before it is written or removed."""

    def __init__(self, path: str, data: bytes) -> None:
        """Raises FileExistsError."""
        self.path, self.last = path, data
        fs, inner = _fs(path)
        fs.pipe_file(inner, data, mode="create")

    def _ours(self) -> bool:
        try:
            return read(self.path) == self.last
        except FileNotFoundError:
            return False

    def renew(self, data: bytes) -> bool:
        if not self._ours():
            return False
        publish(self.path, data)
        self.last = data
        return True

    def remove(self) -> None:
        if self._ours():
            remove(self.path)


def _refused(error: OSError) -> bool:
    """Whether S3 refused a conditional write: the object is another, or two wrote at once."""
    response = getattr(error.__cause__, "response", None) or {}
    return isinstance(error, FileExistsError) or response.get("Error", {}).get("Code") in (
        "PreconditionFailed",
        "ConditionalRequestConflict",
    )


def create(path: str, data: bytes) -> _File | None:
    """Create the lease file `path` only if it is absent; None where it is there."""
    kind: type[_File] = _S3 if path.startswith("s3://") else _Object if is_remote(path) else _Local
    try:
        return kind(path, data)
    except FileExistsError:
        return None


def process_started(pid: int) -> str:
    """When the process began, in clock ticks since boot; empty where it is gone (a pid alone may be used again)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return ""


def _machine() -> str:
    """Where process numbers mean the same: one boot, one PID namespace (containers may share a host name)."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _live(other: dict[str, Any], machine: str) -> bool:
    """Whether the holder lives: looked up on its own machine, elsewhere by when it last renewed."""
    if machine and other.get("machine") == machine:
        return bool(process_started(other["pid"]) == other["started"])
    return bool(time.time() - other["renewed"] < LEASE_SECONDS)


def _there(folder: str) -> dict[int, dict[str, Any]]:
    """Number -> content of the lease files in `folder`; one that is just being written counts as renewed now."""
    found: dict[int, dict[str, Any]] = {}
    for name in names(folder):
        number = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and number.isdigit():
            path = join(folder, name)
            try:
                found[int(number)] = json.loads(read(path))
            except FileNotFoundError:
                continue
            except json.JSONDecodeError:
                with suppress(FileNotFoundError):
                    since = time.time() if is_remote(path) else Path(path).stat().st_mtime
                    found[int(number)] = {"renewed": since, "pid": "unknown", "host": "an unknown host"}
    return found


class Lease:
    """A lease that is held: renewed by a thread until `end`."""

    def __init__(self, folder: str) -> None:
        """Take it. Raises RuntimeError as `lease`."""
        self.folder = folder
        self._mine = {
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "started": process_started(os.getpid()),
            "id": uuid.uuid4().hex,
        }
        self.lost = False
        """Whether it could not be renewed in time, and another has taken over or removed it."""
        self._file = self._take()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")
        self._thread.start()

    def _stamp(self) -> bytes:
        return json.dumps({**self._mine, "renewed": round(time.time(), 3)}).ljust(512).encode()

    def _take(self) -> _File:
        for _ in range(TRIES):
            there = _there(self.folder)
            self._refuse(there)
            number = max(there, default=-1) + 1
            file = create(join(self.folder, f"{PREFIX}{number}"), self._stamp())
            if file is None:
                continue  # another was quicker
            try:
                if self._alone():
                    return file
            except BaseException:
                file.remove()
                raise
            file.remove()  # two at once: both step back, one comes back first
            time.sleep(random.uniform(0.01, 0.1))
        raise RuntimeError(f"{self.folder}: too many processes want to write there at once; start one")

    def _alone(self) -> bool:
        """Whether ours is the one live lease; the dead ones are then removed."""
        others = {n: other for n, other in _there(self.folder).items() if other.get("id") != self._mine["id"]}
        if any(_live(other, str(self._mine["machine"])) for other in others.values()):
            return False
        for n in others:
            remove(join(self.folder, f"{PREFIX}{n}"))
        return True

    def _refuse(self, there: dict[int, dict[str, Any]]) -> None:
        for other in there.values():
            if _live(other, str(self._mine["machine"])):
                raise RuntimeError(
                    f"{self.folder} is being written by process {other['pid']} on {other['host']}: wait for it, or "
                    f"stop it (a dead writer's hold ends by itself after {LEASE_SECONDS:.0f} s)"
                )

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_SECONDS / 4):
            with suppress(OSError):  # the store does not answer: again in a while
                if not self._file.renew(self._stamp()):
                    self.lost = True
                    return

    def end(self) -> None:
        self._stop.set()
        self._thread.join()
        self._file.remove()


@contextmanager
def lease(folder: str) -> Iterator[Lease]:
    """One writer per output: hold a lease on `folder` while writing there.

    That of a dead process of this machine is taken over at once, of another machine when not renewed for LEASE_SECONDS.

    Raises:
        RuntimeError: another live process holds it, the message names it; or, at the end, it was lost to another.
    """
    held = Lease(folder)
    try:
        yield held
    finally:
        held.end()
    if held.lost:
        raise RuntimeError(
            f"{folder}: this process stood still for more than {LEASE_SECONDS:.0f} s, and another has taken over "
            "writing there; run the same command again once that has ended"
        )
