"""The tar's bytes against the standard library's."""

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.data import ustar


def test_header_is_what_tarfile_writes() -> None:
    for name, size in (("00000001.target.jpg", 30_000), ("a" * 100, 0), ("é.png", 8**11 - 1)):
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, 0o644, 0
        assert ustar.header(name.encode(), size) == info.tobuf(tarfile.USTAR_FORMAT, "utf-8")
    with pytest.raises(ValueError, match="USTAR"):
        ustar.header(b"a" * 101, 1)
    with pytest.raises(ValueError, match="USTAR"):
        ustar.header(b"a", 8**11)


@pytest.mark.parametrize("flush", [3001, 5000, 1 << 20])
def test_tar_of_members_of_every_size(tmp_path: Path, flush: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ustar, "BUFFER", flush)
    generator = np.random.default_rng(0)
    members = [generator.bytes(n) for n in (0, 1, 511, 512, 513, 4095, 4096, 4097, 100_000, 3) * 150]
    with open(tmp_path / "a.tar", "wb", buffering=0) as sink, ustar.TarFile(sink) as tar:
        offsets = [tar.add(f"{i}.bin", data) for i, data in enumerate(members)]
        tar.close()
    whole = (tmp_path / "a.tar").read_bytes()
    assert len(whole) == tar.bytes and hashlib.sha256(whole).hexdigest() == tar.sha256.hexdigest()
    assert all(whole[o : o + len(data)] == data for o, data in zip(offsets, members, strict=True))
    with tarfile.open(tmp_path / "a.tar") as found:
        assert found.getnames() == [f"{i}.bin" for i in range(len(members))]


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as sink, ustar.TarFile(sink) as tar:
        tar.add("a", bytes(10_000))
        with pytest.raises(OSError, match="No space left"):
            tar.close()
