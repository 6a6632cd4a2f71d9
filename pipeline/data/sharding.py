"""A source -> a data set folder: its missing shards on a pool of workers, then dataset.json."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from pipeline.artifacts import artifact, lease, pool, storage
from pipeline.data import decode, samples, shards, tars


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """What is done to the samples, and how many go into a shard; part of the data set's identity."""

    resize: int = 0
    """Shortest side in pixels (bicubic, label maps nearest; written as PNG); 0 keeps the source's own bytes."""
    check: Literal["header", "decode"] = "header"
    """header: size, format, end marker. decode: every pixel."""
    max_pixels: int = decode.MAX_PIXELS
    """Larger pictures become rows with a reason, undecoded."""
    shard_size: int = 256
    """Samples per shard: the unit of work, retry and resume."""

    def __post_init__(self) -> None:
        for option, least in (("shard_size", 1), ("resize", 0), ("max_pixels", 1)):
            if getattr(self, option) < least:
                raise ValueError(f"--{option.replace('_', '-')} {getattr(self, option)}: give at least {least}")
        if self.max_pixels > decode.PILLOW_LIMIT:
            raise ValueError(f"--max-pixels {self.max_pixels}: Pillow itself stops at {decode.PILLOW_LIMIT}")


def shard(
    root: str,
    source: samples.Source,
    origin: dict[str, Any],
    place: str,
    options: ShardOptions | None = None,
    workers: int = 2,
    max_bad_share: float = 0.01,
) -> tuple[dict[str, Any], int]:
    """Write the shards that are missing in `root`, on a pool of `workers`; returns dataset.json's content, and how many
    shards were written.

    `origin`: the options that `source` was opened with (part of the data set's identity); `place`: where it reads.

    Raises:
        ValueError: nothing to read, more than `max_bad_share` of the samples bad, or another data set in the folder.
    """
    began = time.perf_counter()
    options = options or ShardOptions()
    listed = source.samples()  # before anything is written: it may fail
    inputs, hashed = _request(options, source, origin, listed)
    with lease.lease(root):
        _make_way(root, inputs, hashed)
        artifact.begin(root, "dataset", shards.FORMAT, inputs, hashed)
        items, counts = _missing(root, listed, options.shard_size)
        how = tars.Treatment(source.fields, options.max_pixels, options.resize, options.check == "decode")
        readers = 16 if storage.is_remote(place) else 1 + how.decodes  # an object store answers late, but many at once
        how = replace(how, readers=readers)
        made = [root, source.reader, how]
        for _, done in pool.each(_shard_writer, made, items, workers, what="shard", unit="shards") if items else ():
            if not storage.is_remote(root):  # an object store cannot append: a line a shard would be quadratic
                artifact.record(root, job="shard", **done)
        described = shards.summary(root, storage.read_json(storage.join(root, "request.json")), counts)
        _judge(root, described, max_bad_share)
        storage.publish_json(storage.join(root, "dataset.json"), described)
        seconds = time.perf_counter() - began
        artifact.record(root, job="shard", event="end", shards_written=len(items), workers=workers, seconds=seconds)
    return described, len(items)


def _request(
    options: ShardOptions, source: samples.Source, origin: dict[str, Any], listed: dict[str, list[samples.Entry]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    names = {
        split: [[e.source, sorted(e.files.items()), e.bytes] for e in entries] for split, entries in listed.items()
    }
    inputs = {"source_listing": artifact.digest(names), "source_samples": {s: len(e) for s, e in listed.items()}}
    hashed = {
        "source": origin,
        "fields": {name: samples.field_json(field) for name, field in source.fields.items()},
        "resize": options.resize,
        "check": options.check,
        "max_pixels": options.max_pixels,
        "shard_size": options.shard_size,
    }
    return inputs, hashed


def _make_way(root: str, inputs: dict[str, Any], hashed: dict[str, Any]) -> None:
    """Remove an unfinished data set of the same options whose source has changed since, most likely as it was mended:
    nothing can be made of it any more. A finished one stays, and refuses the other source."""
    path = storage.join(root, "request.json")
    if storage.exists(storage.join(root, "dataset.json")) or not storage.exists(path):
        return
    there = storage.read_json(path)
    if there["kind"] == "dataset" and there["options"] == hashed and there["inputs"] != inputs:
        print(f"{root} was begun with other files in the source, and not finished: all its shards are made again")
        for split in there["inputs"]["source_samples"]:
            storage.remove(storage.join(root, split))
        storage.remove(path)


def _shard_writer(root: str, read: samples.Reader, how: tars.Treatment) -> Callable[[Any], Any]:
    def write(item: tuple[str, int, int, list[samples.Entry]]) -> dict[str, Any]:
        split, shard, first, entries = item
        began = time.perf_counter()
        marker = tars.write_shard(root, split, shard, first, entries, read, how)
        return {"split": split, "shard": shard, "seconds": time.perf_counter() - began, **marker}

    return write


def _missing(root: str, listed: dict[str, list[samples.Entry]], size: int) -> tuple[list[Any], dict[str, int]]:
    """The shards that are not whole, and split -> number of shards. Drafts that a kill left are removed."""
    items, counts = [], {}
    for split, entries in listed.items():
        counts[split] = -(-len(entries) // size)
        there = set(storage.names(storage.join(root, split)))
        for name in there:
            if name.startswith(".tmp-"):
                storage.remove(storage.join(root, split, name))
        items += [
            (split, i, i * size, entries[i * size : (i + 1) * size])
            for i in range(counts[split])
            if not {f"{i:05d}.{kind}" for kind in ("json", "tar", "parquet")} <= there or _damaged(root, split, i)
        ]
    return items, counts


def _damaged(root: str, split: str, shard: int) -> bool:
    """Whether a tar has another size, or an index another hash, than the done-marker says. (`jobs.verify` hashes the
    tars too, which takes as long as reading them.)"""
    tar, index, marker = (shards.shard_path(root, split, shard, kind) for kind in ("tar", "parquet", "json"))
    try:
        said = storage.read_json(marker)
        return bool(storage.size(tar) != said["bytes"] or storage.sha256_file(index) != said["index_sha256"])
    except (ValueError, KeyError):  # the marker itself
        return True


def bad_samples(root: str, split: str, count: int) -> Iterator[tuple[str, str]]:
    """(source, reason) of the bad samples in a split's `count` shards, in their order."""
    for shard in range(count):
        for row in shards.read_index(root, split, shard).to_pylist():
            if row["status"] != "ok":
                yield row["source"], row["error"]


def _judge(root: str, described: dict[str, Any], limit: float) -> None:
    """Raises ValueError where too many samples are bad, with their reasons; dataset.json is then not written."""
    bad = sum(d["bad"] for d in described["splits"].values())
    good = sum(d["samples"] for d in described["splits"].values())
    if bad <= limit * (bad + good) and all(d["samples"] for d in described["splits"].values()):
        return
    found = [each for split, d in described["splits"].items() for each in bad_samples(root, split, d["shards"])]
    reasons = {reason for _, reason in found}
    examples = [f"{source}: {reason}" for source, reason in found]
    raise ValueError(
        f"{bad} of {bad + good} samples are bad, more than --max-bad-share {limit} (or all of a split). "
        f"Mend the source, or give a larger share. {len(reasons)} reasons, such as:\n  " + "\n  ".join(examples[:10])
    )
