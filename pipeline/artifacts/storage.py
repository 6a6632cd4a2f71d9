"""One door to local, s3:// and gs:// paths; whole files appear at once or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from pipeline.artifacts.scratch import Scratch


def is_remote(path: str) -> bool:
    return "://" in path


def _fs(path: str) -> tuple[Any, str]:
    # S3-compatible stores other than AWS: AWS_ENDPOINT_URL, read by botocore itself.
    # No listing cache: another worker's new file must be seen.
    options = {"use_listings_cache": False} if path.startswith("s3://") else {}
    fs, inner = fsspec.core.url_to_fs(path, **options)
    return fs, str(inner)


def join(root: str, *parts: str) -> str:
    return "/".join([root.rstrip("/"), *(p.strip("/") for p in parts)])


def absolute(path: str, option: str) -> str:
    """`path` as an absolute path, unchanged when remote.

    Raises:
        ValueError: an empty path, or a relative one within a job submitted to a cluster: its working folder is a copy.
    """
    if not path:
        raise ValueError(f"{option} is empty: name a folder")
    if is_remote(path):
        return path.rstrip("/")
    if not Path(path).is_absolute() and os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        raise ValueError(
            f"{option} {path}: a submitted job runs in a temporary copy of the working folder, where results would be "
            "lost; give an absolute path on shared storage, or s3://"
        )
    return str(Path(path).expanduser().absolute())


def output(path: str, **read: str) -> str:
    """`absolute` of the folder that --output names. `read`: what the job reads, by option.

    Raises:
        ValueError: as `absolute`; a file; or a folder that the job reads, which must stay as it is.
    """
    folder = absolute(path, "--output")
    if not is_remote(folder) and Path(folder).is_file():
        raise ValueError(f"--output {path} is a file: name a folder")
    for option, there in read.items():
        if there and absolute(there, f"--{option}") == folder:
            raise ValueError(f"--output {path} is the folder of --{option}: name another one")
    return folder


def exists(path: str) -> bool:
    if not is_remote(path):
        return Path(path).exists()
    fs, inner = _fs(path)
    return bool(fs.exists(inner))


def is_file(path: str) -> bool:
    if not is_remote(path):
        return Path(path).is_file()
    fs, inner = _fs(path)
    return bool(fs.isfile(inner))


def size(path: str) -> int:
    if not is_remote(path):
        return Path(path).stat().st_size
    fs, inner = _fs(path)
    return int(fs.size(inner))


def read(path: str) -> bytes:
    """The whole file. Raises FileNotFoundError."""
    if not is_remote(path):
        return Path(path).read_bytes()
    fs, inner = _fs(path)
    return bytes(fs.cat_file(inner))


def read_range(path: str, start: int, length: int) -> bytes:
    """`length` bytes from byte `start`; fewer where the file ends before."""
    if not is_remote(path):
        with open(path, "rb") as f:
            f.seek(start)
            return f.read(length)
    fs, inner = _fs(path)
    return bytes(fs.cat_file(inner, start=start, end=start + length))


def names(folder: str) -> list[str]:
    """Names of files and folders directly in `folder`, sorted; empty where it does not exist."""
    if not is_remote(folder):
        return sorted(p.name for p in Path(folder).iterdir()) if Path(folder).is_dir() else []
    fs, inner = _fs(folder)
    try:
        return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(inner, detail=False))
    except FileNotFoundError:
        return []


def listing(root: str) -> dict[str, int]:
    """Path below `root` -> size, of all files at any depth, sorted by path; empty where there is no such folder.

    Links are followed; what begins with a dot is left out. A file that cannot be read (no permission, a link to nowhere
    or to itself) has size 0.

    Raises:
        OSError: a folder that cannot be read.
    """
    found: dict[str, int] = {}
    if is_remote(root):
        fs, inner = _fs(root)
        for path, entry in fs.find(inner, detail=True).items():
            if path != inner:
                found[str(path)[len(inner) :].lstrip("/")] = int(entry["size"])
    else:
        seen = set()
        for folder, folders, files in os.walk(root, onerror=_unreadable, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:  # a link back to a folder above
                folders.clear()
                continue
            seen.add(real)
            for name in files:
                path = Path(folder, name)
                try:
                    # What cannot be read counts as empty, so that it is another listing once that is mended.
                    size = path.stat().st_size if os.access(path, os.R_OK) else 0
                except OSError:
                    size = 0
                found[path.relative_to(root).as_posix()] = size
    return {path: found[path] for path in sorted(found) if not any(part.startswith(".") for part in path.split("/"))}


def _unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def remove(path: str) -> None:
    """Remove a file, or a folder with everything in it; nothing happens where there is none."""
    if not is_remote(path):
        if Path(path).is_dir():
            shutil.rmtree(path)
        else:
            Path(path).unlink(missing_ok=True)
        return
    fs, inner = _fs(path)
    if fs.exists(inner):
        fs.rm(inner, recursive=True)


def publish(path: str, data: bytes) -> None:
    """Write `data` so that `path` holds all of it or what it held before, also after a crash.

    Raises OSError (full disk)."""
    if is_remote(path):
        fs, inner = _fs(path)
        fs.pipe_file(inner, data)  # one PUT, or a multipart upload that completes at its end: atomic on object stores
        return
    with temporary(path) as draft:
        Path(draft).write_bytes(data)
        publish_file(path, draft)


@contextmanager
def temporary(path: str) -> Iterator[str]:
    """A local name to write to before `publish_file(path, name)`: beside a local `path`, else in the temporary folder.
    Removed at the end if it is still there; a `.tmp-` file that a kill left behind is never read by anyone."""
    if is_remote(path):
        with Scratch("draft") as there:
            yield f"{there}/draft"
        return
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".tmp-{uuid.uuid4().hex}"
    try:
        yield str(draft)
    finally:
        draft.unlink(missing_ok=True)


def publish_file(path: str, draft: str) -> None:
    """Make the finished local file `draft` appear as `path`, whole: fsync and rename, or one upload."""
    if is_remote(path):
        fs, inner = _fs(path)
        fs.put_file(draft, inner)
        return
    fd = os.open(draft, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    Path(draft).replace(path)
    fd = os.open(Path(path).parent, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def json_bytes(value: Any) -> bytes:
    """The one form in which JSON is written here: a changed byte shows, even a blank."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def publish_json(path: str, value: Any) -> None:
    publish(path, json_bytes(value))


def read_json(path: str) -> Any:
    """Raises ValueError naming the file where it is not JSON."""
    try:
        return json.loads(read(path))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}): it was damaged; remove it and run the job again"
        ) from error


def sha256_file(path: str, block: int = 8 << 20) -> str:
    """Hex SHA-256 of a file, read block by block."""
    if not is_remote(path):
        with open(path, "rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    digest = hashlib.sha256()
    for start in range(0, size(path), block):  # a range beyond the end is an error on S3
        digest.update(read_range(path, start, block))
    return digest.hexdigest()
