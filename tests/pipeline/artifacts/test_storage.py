"""Storage on a real HTTP server on loopback."""

from pathlib import Path

import pytest

from pipeline.artifacts import storage


def test_storage_on_s3(s3: str, tmp_path: Path) -> None:
    path = f"{s3}/storage/a.json"
    assert not storage.exists(path) and storage.names(f"{s3}/storage") == []
    storage.publish(path, b"0123456789")
    storage.publish(path, b"abcdefghij")
    assert storage.read(path) == b"abcdefghij" and storage.size(path) == 10
    assert storage.read_range(path, 3, 4) == b"defg" and storage.read_range(path, 8, 9) == b"ij"
    with storage.temporary(path) as draft:
        Path(draft).write_bytes(b"new")
        storage.publish_file(path, draft)
    assert storage.read(path) == b"new" and not Path(draft).exists()
    assert storage.names(f"{s3}/storage") == ["a.json"]
    assert storage.listing(f"{s3}/storage") == {"a.json": 3}
    assert storage.sha256_file(path) == "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"
    storage.remove(path)
    with pytest.raises(FileNotFoundError):
        storage.read(path)
