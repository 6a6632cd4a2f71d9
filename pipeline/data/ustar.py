"""Plain USTAR (POSIX.1-1988) written directly: 512-byte headers, mtime 0, owner 0, the same bytes every time.

A library's tar writer spends most of its time on the headers, and Ray Data's cannot write the same bytes twice.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from types import TracebackType

BUFFER = 1 << 20
"""Bytes gathered before they are hashed and written: they stay in the processor's cache from one to the other."""

MAX_MEMBER = 8**11 - 1
"""A USTAR size has eleven octal digits."""

# POSIX.1-1988 USTAR: name 100, mode 8, uid 8, gid 8, size 12, mtime 12, checksum 8, type 1, link 100, magic 8, ...
_BEFORE = b"0000644\0" + b"0000000\0" * 2
_MTIME = b"00000000000\0"
_AFTER = (b"0" + bytes(100) + b"ustar\x0000").ljust(512 - 156, b"\0")
_SUM = sum(_BEFORE) + sum(_MTIME) + sum(b" " * 8) + sum(_AFTER)


def header(name: bytes, size: int) -> bytes:
    """The 512 bytes before a plain file's bytes.

    Raises:
        ValueError: a name of over 100 bytes, or 8 GiB or more.
    """
    if len(name) > 100 or size > MAX_MEMBER:
        raise ValueError(f"{name!r} of {size} bytes does not fit in a USTAR header")
    octal = b"%011o\0" % size
    checksum = b"%06o\0 " % (_SUM + sum(name) + sum(octal))
    return name.ljust(100, b"\0") + _BEFORE + octal + _MTIME + checksum + _AFTER


class TarFile:
    """Appends members to an unbuffered file and keeps the SHA-256 of all that was written.

    Hashing and writing run on a thread behind `add`: while it has one buffer, the other is filled. Within `with`, so
    that the thread ends; what it could not write is raised by a later `add`, or by `close`.
    """

    def __init__(self, sink: FileIO) -> None:
        self.sink, self.sha256, self.bytes = sink, hashlib.sha256(), 0
        self._buffer, self._other, self._used = memoryview(bytearray(BUFFER)), memoryview(bytearray(BUFFER)), 0
        self._behind = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> TarFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._behind.shutdown(wait=True)

    def add(self, name: str, data: bytes) -> int:
        """Append a member; returns the offset of its bytes."""
        size = len(data)
        self._put(header(name.encode(), size))
        offset = self.bytes
        self._put(data)
        if size % 512:
            self._put(bytes(-size % 512))
        return offset

    def close(self) -> None:
        """Append the two zero blocks that end a tar, and write what is left. The file stays open."""
        self._put(bytes(1024))
        self._flush()
        self._wait()

    def _put(self, data: bytes) -> None:
        size = len(data)
        self.bytes += size
        end = self._used + size
        if end <= BUFFER:  # nearly always
            self._buffer[self._used : end] = data
            self._used = end
            return
        rest = memoryview(data)
        while rest:
            piece = rest[: BUFFER - self._used]
            self._buffer[self._used : self._used + len(piece)] = piece
            self._used += len(piece)
            rest = rest[len(piece) :]
            if rest:
                self._flush()

    def _flush(self) -> None:
        self._wait()
        self._writing = self._behind.submit(self._write, self._buffer[: self._used])
        self._buffer, self._other, self._used = self._other, self._buffer, 0

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _write(self, data: memoryview) -> None:
        self.sha256.update(data)
        while data:  # a nearly full disk writes a part, then raises
            data = data[self.sink.write(data) :]
        if hasattr(os, "posix_fadvise"):  # the disk begins now, not at the fsync of the whole
            os.posix_fadvise(self.sink.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
