"""Shard a source into WebDataset tars with an index: python -m jobs.shard --source demo --output data/demo

Sources: demo, or a folder (local or s3://) of pairs (input/ or labels/ beside target/), of side-by-side images
(--input-side left|right), or of plain images; train/, val/, test/ below it are splits. The same source and options give
the same bytes for any number of workers; the same command again resumes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from jobs import command
from pipeline.artifacts import artifact, lease, pool, storage
from pipeline.data import decode, palettes, samples, shards, tars
from pipeline.data.sources import demo, folder

if TYPE_CHECKING:
    from pipeline.tracking.journal import Tracker


@dataclass(frozen=True)
class Config:
    """What to shard, and where to."""

    source: str
    """"demo", or a folder, local or s3://."""
    output: str
    """Folder of the data set, local or s3://."""
    layout: Literal["auto", "pairs", "sides", "images"] = "auto"
    """What the folder holds; auto: sides with --input-side, pairs where there is a target/, else images."""
    input_side: Literal["", "left", "right"] = ""
    """Which half of side-by-side images is the input."""
    palette: str = ""
    """Inputs are label maps painted in colours: `facades`, `cityscapes`, or a file of one `R G B` a line."""
    val_share: float = 0.0
    """Share of the samples moved to split val, by a hash of their names; for sources without splits of their own."""
    resize: int = 0
    """Shortest side in pixels (bicubic, label maps nearest; written as PNG); 0 keeps the source's own bytes."""
    check: Literal["header", "decode"] = "header"
    """header: size, format, end marker. decode: every pixel."""
    max_pixels: int = decode.MAX_PIXELS
    """Larger pictures become rows with a reason, undecoded."""
    shard_size: int = 256
    """Samples per shard: the unit of work, retry and resume."""
    workers: int = 2
    """Ray workers; does not change a byte."""
    max_bad_share: float = 0.01
    """The job fails, after finishing its count, when more of the samples are bad."""
    size: int = 64
    """demo: side of the crops in pixels."""
    crops: int = 60
    """demo: training crops per photograph."""
    seed: int = 0
    """demo: where the crops lie."""
    held_out: Literal["regions", "photographs"] = "regions"
    """demo: a part of each photograph (split val), or also six photographs that training never sees (split test)."""

    def __post_init__(self) -> None:
        for option, least in (("shard_size", 1), ("workers", 1), ("resize", 0), ("max_pixels", 1), ("crops", 1)):
            if getattr(self, option) < least:
                raise ValueError(f"--{option.replace('_', '-')} {getattr(self, option)}: give at least {least}")
        if self.max_pixels > decode.PILLOW_LIMIT:
            raise ValueError(f"--max-pixels {self.max_pixels}: Pillow itself stops at {decode.PILLOW_LIMIT}")
        if not 0 <= self.max_bad_share <= 1:
            raise ValueError(f"--max-bad-share {self.max_bad_share}: give a share between 0 and 1")


def source_options(config: Config) -> dict[str, Any]:
    """What `sources.open_source` needs beside the place; part of the request."""
    if config.source == "demo":
        if config.input_side or config.val_share or config.palette or config.layout != "auto":
            raise ValueError(
                "--source demo has its own layout and splits: leave out --layout, --input-side, --palette, --val-share"
            )
        given = {"size": config.size, "crops": config.crops, "seed": config.seed, "held_out": config.held_out}
        return {"kind": "demo", "version": demo.VERSION, **given}
    return {
        "kind": "folder",
        "layout": config.layout,
        "input_side": config.input_side,
        "val_share": config.val_share,
        **({"palette": asdict(palettes.named(config.palette))} if config.palette else {}),
    }


def _request(config: Config, source: samples.Source, listed: dict[str, list[samples.Entry]]) -> tuple[Any, Any]:
    names = {
        split: [[e.source, sorted(e.files.items()), e.bytes] for e in entries] for split, entries in listed.items()
    }
    inputs = {"source_listing": artifact.digest(names), "source_samples": {s: len(e) for s, e in listed.items()}}
    options = {
        "source": source_options(config),
        "fields": {name: samples.field_json(field) for name, field in source.fields.items()},
        "resize": config.resize,
        "check": config.check,
        "max_pixels": config.max_pixels,
        "shard_size": config.shard_size,
    }
    return inputs, options


def _make(root: str, read: samples.Reader, how: tars.Treatment) -> Callable[[Any], Any]:
    def write(item: tuple[str, int, int, list[samples.Entry]]) -> dict[str, Any]:
        split, shard, first, entries = item
        began = time.perf_counter()
        marker = tars.write_shard(root, split, shard, first, entries, read, how)
        return {"split": split, "shard": shard, "seconds": time.perf_counter() - began, **marker}

    return write


def run(config: Config, tracker: Tracker | None = None) -> dict[str, Any]:
    """Write what is missing; returns dataset.json's content.

    Raises:
        ValueError: nothing to read, too many bad samples, or another data set in the folder.
    """
    began = time.perf_counter()
    root = storage.absolute(config.output, "--output")
    place = "demo" if config.source == "demo" else storage.absolute(config.source, "--source")
    if root == place or root.startswith(place + "/"):
        raise ValueError(f"--output {root} lies in --source {place}: choose a folder outside of it")
    source = folder.open_source(source_options(config), place)
    listed = source.samples()
    inputs, options = _request(config, source, listed)
    with lease.lease(root):
        artifact.begin(root, "dataset", shards.FORMAT, inputs, options)
        items, counts = _missing(root, listed, config.shard_size)
        how = tars.Treatment(source.fields, config.max_pixels, config.resize, config.check == "decode")
        readers = 16 if storage.is_remote(place) else 1 + how.decodes  # an object store answers late, but many at once
        how = replace(how, readers=readers)
        for _, done in pool.each(_make, [root, source.reader, how], items, config.workers) if items else ():
            if not storage.is_remote(root):  # an object store cannot append: a line a shard would be quadratic
                artifact.record(root, job="shard", **done)
        described = shards.summary(root, storage.read_json(storage.join(root, "request.json")), counts)
        _judge(root, described, config.max_bad_share)
        storage.publish_json(storage.join(root, "dataset.json"), described)
        seconds = time.perf_counter() - began
        artifact.record(
            root, job="shard", event="end", shards_written=len(items), workers=config.workers, seconds=seconds
        )
    _tell(root, described, len(items), source.other_files, seconds, tracker)
    return described


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
            if not {f"{i:05d}.json", f"{i:05d}.tar"} <= there or _cut(root, split, i)
        ]
    return items, counts


def _cut(root: str, split: str, shard: int) -> bool:
    """Whether a tar has another size than its done-marker says."""
    marker = storage.read_json(shards.shard_path(root, split, shard, "json"))
    return bool(storage.size(shards.shard_path(root, split, shard, "tar")) != marker["bytes"])


def _judge(root: str, described: dict[str, Any], limit: float) -> None:
    """Raises ValueError where too many samples are bad, with their reasons; dataset.json is then not written."""
    bad = sum(d["bad"] for d in described["splits"].values())
    good = sum(d["samples"] for d in described["splits"].values())
    if bad <= limit * (bad + good) and all(d["samples"] for d in described["splits"].values()):
        return
    reasons, examples = Counter[str](), []
    for split, d in described["splits"].items():
        for shard in range(d["shards"]):
            for row in shards.read_index(root, split, shard).to_pylist():
                if row["status"] != "ok":
                    reasons[row["error"]] += 1
                    examples.append(f"{row['source']}: {row['error']}")
    raise ValueError(
        f"{bad} of {bad + good} samples are bad, more than --max-bad-share {limit} (or all of a split). "
        f"Mend the source, or give a larger share. {len(reasons)} reasons, such as:\n  " + "\n  ".join(examples[:10])
    )


def _tell(
    root: str, described: dict[str, Any], written: int, others: int, seconds: float, tracker: Tracker | None
) -> None:
    for split, d in described["splits"].items():
        print(f"{split}: {d['samples']} samples in {d['shards']} shards, {d['bad']} bad, {d['bytes'] / 1e6:.1f} MB")
        if d["bad"]:
            print(f"  {d['bad']} bad samples: the rows with a reason in {root}/{split}/*.parquet, column error")
        if "off_palette" in d:
            print(f"  {d['off_palette']:.2%} of the label pixels are far from every colour of the palette")
    if others:
        print(f"{others} files of the source are no images by their names and were left out")
    print(f"{written} shards written in {seconds:.1f} s; {root} fingerprint {described['fingerprint'][:16]}")
    if tracker is not None:
        for split, d in described["splits"].items():
            figures = {"samples": d["samples"], "bad": d["bad"], "bytes": d["bytes"]}
            tracker.scalars({f"shard/{split}_{name}": float(value) for name, value in figures.items()}, step=0)
        tracker.dataset("dataset", described["fingerprint"], root, "training")
        tracker.file(storage.join(root, "dataset.json"))


if __name__ == "__main__":
    command.main(Config, run, __doc__)
