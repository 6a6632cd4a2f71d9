"""Plain USTAR (POSIX.1-1988) written directly: 512-byte headers, mtime 0, owner 0, the same bytes every time.

A library's tar writer spends most of its time on the headers, and Ray Data's cannot write the same bytes twice.
"""

from __future__ import annotations

import hashlib
import os
from io import FileIO

FLUSH = 1 << 20
"""Bytes gathered before they are hashed and written."""
COPIED = 4096
"""Smaller members are copied together; larger ones go to the disk from where they are."""
MAX_PARTS = 500
"""The system takes at most 1,024 buffers in one call."""

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
    """Appends members to an unbuffered file and keeps the SHA-256 of all that was written."""

    def __init__(self, sink: FileIO) -> None:
        self.sink, self.sha256, self.bytes = sink, hashlib.sha256(), 0
        self._parts: list[bytes] = []
        self._small = b""  # what follows the last part: padding, headers, little members
        self._waiting = 0

    def add(self, name: str, data: bytes) -> int:
        """Append a member; returns the offset of its bytes."""
        size = len(data)
        padding = -size % 512
        if size < COPIED:
            self._small += header(name.encode(), size) + data + bytes(padding)
        else:
            self._parts += (self._small + header(name.encode(), size), data)
            self._small = bytes(padding)
        offset = self.bytes + 512
        self.bytes = offset + size + padding
        self._waiting += 512 + size + padding
        if self._waiting >= FLUSH or len(self._parts) > MAX_PARTS:
            self._flush()
        return offset

    def close(self) -> None:
        """Append the two zero blocks that end a tar, and write what is left. The file stays open."""
        self._small += bytes(1024)
        self.bytes += 1024
        self._flush()

    def _flush(self) -> None:
        parts = [*self._parts, self._small]
        for part in parts:
            self.sha256.update(part)
        written, wanted = os.writev(self.sink.fileno(), parts), sum(map(len, parts))
        rest = memoryview(b"".join(parts))[written:] if written < wanted else memoryview(b"")
        while rest:  # a nearly full disk writes a part, then raises
            rest = rest[self.sink.write(rest) :]
        self._parts, self._small, self._waiting = [], b"", 0
