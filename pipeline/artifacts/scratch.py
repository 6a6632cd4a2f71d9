"""Folders in the temporary folder that a process needs for a while; what a killed one left is removed by the next."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "variegate-"


class Scratch:
    """A folder TMPDIR/variegate-WHAT-*, with everything in it removed by `close`, or at the end of a `with` block.

    Its owner holds a lock (flock) on it, which ends with the process however that ends. Making one first removes those
    of this user that nobody holds.
    """

    def __init__(self, what: str) -> None:
        sweep()
        while True:
            self.path = tempfile.mkdtemp(prefix=f"{PREFIX}{what}-")
            self._lock = os.open(self.path, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if os.path.exists(self.path):  # noqa: PTH110 (another's sweep may have come between the two)
                return
            os.close(self._lock)

    def close(self) -> None:
        """Remove it; a second call does nothing."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> str:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


def sweep() -> None:
    """Remove this user's scratch folders whose owner has ended."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # gone, or held: both are fine
            about = path.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
                continue
            folder = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(folder)
