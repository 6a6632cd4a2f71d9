"""One writer per output folder: a lease file, created only if absent, renewed while its holder lives."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.artifacts.storage import _fs, exists, is_remote, join, publish, read, remove

LEASE_SECONDS = 60.0
"""A lease that has not been renewed for so long is taken over; it is renewed four times as often."""


def create(path: str, data: bytes) -> bool:
    """Create `path` only if it is absent; False where it is there."""
    if is_remote(path):
        fs, inner = _fs(path)
        try:
            fs.pipe_file(inner, data, mode="create")  # If-None-Match: *
        except FileExistsError:
            return False
        return True
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(fd, "wb") as f:
        f.write(data)
    return True


def process_started(pid: int) -> str:
    """When the process began, in clock ticks since boot; empty where it is gone (a pid alone may be used again)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return ""


@contextmanager
def lease(folder: str) -> Iterator[None]:
    """One writer per output: hold `folder`/.lease while writing there.

    A lease of a dead process of this host is taken over at once, of another host when not renewed for LEASE_SECONDS.

    Raises:
        RuntimeError: another live process holds it; the message names it.
    """
    path = join(folder, ".lease")
    mine = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": process_started(os.getpid()),
        "id": uuid.uuid4().hex,
    }

    def stamp() -> bytes:
        return json.dumps({**mine, "renewed": time.time()}).encode()

    while not create(path, stamp()):
        try:
            other = json.loads(read(path))
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.2)
            other = {}
            if exists(path) and not is_remote(path) and time.time() - Path(path).stat().st_mtime > LEASE_SECONDS:
                remove(path)
            continue
        here = other["host"] == mine["host"]
        dead = here and process_started(other["pid"]) != other["started"]
        if not dead and time.time() - other["renewed"] < LEASE_SECONDS:
            raise RuntimeError(
                f"{folder} is being written by process {other['pid']} on {other['host']}: "
                f"wait for it, or stop it (a dead writer's hold ends by itself after {LEASE_SECONDS:.0f} s)"
            )
        remove(path)
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(LEASE_SECONDS / 4):
            publish(path, stamp())

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        remove(path)
