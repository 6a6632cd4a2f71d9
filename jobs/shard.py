"""Shard a source into WebDataset tars with an index: python -m jobs.shard --source demo --output data/demo

Sources: demo, or a folder (local or s3://) of pairs (input/ or labels/ beside target/), of side-by-side images
(--input-side left|right), of plain images, or with a folder for each class (--layout classes); train/, val/, test/
below it are splits. KIND:PATH is another kind of source, with options of its own (--option NAME VALUE): table:FILE.csv
--option fields photo=image,kind=class; idx:FOLDER for MNIST; see jobs/README.md. The same source and options give the
same bytes for any number of workers; the same command again resumes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from jobs import command
from pipeline.artifacts import storage
from pipeline.data import palettes, sources
from pipeline.data.sharding import ShardOptions, bad_samples, shard

if TYPE_CHECKING:
    from pipeline.tracking.journal import Tracker

NAMED = 5
"""Files that a message names; it counts the others."""


@dataclass(frozen=True, kw_only=True)
class Config(ShardOptions):
    """What to shard, and where to."""

    source: str
    """"demo", a folder (local or s3://), or KIND:PATH for another kind of source (see the head of this text)."""
    option: dict[str, str] = field(default_factory=dict)
    """NAME VALUE: options of a source of another kind."""
    output: str
    """Folder of the data set, local or s3://."""
    layout: Literal["auto", "pairs", "sides", "images", "classes"] = "auto"
    """What the folder holds; auto: sides with --input-side, pairs where there is a target/, else images. classes: each
    image's folder is its class."""
    input_side: Literal["", "left", "right"] = ""
    """Which half of side-by-side images is the input."""
    palette: str = ""
    """Inputs are label maps painted in colours: `facades`, `cityscapes`, or a file of one `R G B` a line."""
    connected_components: bool = False
    """Each connected component of one class of the label maps is one instance (pix2pixHD's objects)."""
    val_share: float = 0.0
    """Share of the samples moved to split val, by a hash of their names; for sources without splits of their own."""
    workers: int = 2
    """Ray workers; does not change a byte. 0: in this process."""
    max_bad_share: float = 0.01
    """After checking all samples, the job fails if a larger share is bad."""
    size: int = 64
    """demo: side of the crops in pixels."""
    crops: int = 60
    """demo: training crops per photograph."""
    seed: int = 0
    """demo: where the crops lie."""
    held_out: Literal["regions", "photographs"] = "regions"
    """demo: a part of each photograph (split val), or also six photographs that training never sees (split test)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for option, least in (("workers", 0), ("crops", 1)):
            if getattr(self, option) < least:
                raise ValueError(f"--{option} {getattr(self, option)}: give at least {least}")
        if not 0 <= self.max_bad_share <= 1:
            raise ValueError(f"--max-bad-share {self.max_bad_share}: give a share between 0 and 1")


def source_options(config: Config, kind: str) -> dict[str, Any]:
    """The source's options as the command line gives them."""
    given: dict[str, Any] = dict(config.option)
    of_folder = {"layout": config.layout, "input_side": config.input_side, "val_share": config.val_share}
    plain = {"layout": "auto", "input_side": "", "val_share": 0.0}
    if kind == "folder":
        given |= of_folder
        if config.palette:
            given["palette"] = asdict(palettes.named(config.palette))
        if config.connected_components:
            given["connected_components"] = True
    elif of_folder != plain or config.palette or config.connected_components:
        raise ValueError(
            f"--source {kind} has its own layout and splits: leave out --layout, --input-side, --palette, "
            "--connected-components, --val-share"
        )
    if kind == "demo":
        given |= {"size": config.size, "crops": config.crops, "seed": config.seed, "held_out": config.held_out}
    return sources.options(kind, given)


def run(config: Config, tracker: Tracker | None = None) -> dict[str, Any]:
    """Write what is missing; returns dataset.json's content.

    Raises:
        ValueError: nothing to read, too many bad samples, or another data set in the folder.
    """
    began = time.perf_counter()
    root = storage.output(config.output)
    kind, place = sources.parse(config.source)
    if root == place or root.startswith(place + "/"):
        raise ValueError(f"--output {root} lies in --source {place}: choose a folder outside of it")
    origin = source_options(config, kind)
    source = sources.open_source(origin, place)
    described, written = shard(root, source, origin, place, config, config.workers, config.max_bad_share)
    _tell(root, described, written, source.left_out, time.perf_counter() - began, tracker)
    return described


def tell_bad(root: str, split: str, part: Mapping[str, Any]) -> None:
    """Say how many samples of a split are bad, and why some of them are; `part`: the split in dataset.json."""
    if part["bad"]:
        print(f"  {part['bad']} bad samples: the rows with a reason in {root}/{split}/*.parquet, column error")
        for source, reason in islice(bad_samples(root, split, part["shards"]), NAMED):
            print(f"    {source}: {reason}")


def _tell(
    root: str, described: dict[str, Any], written: int, others: Sequence[str], seconds: float, tracker: Tracker | None
) -> None:
    for split, d in described["splits"].items():
        print(f"{split}: {d['samples']} samples in {d['shards']} shards, {d['bad']} bad, {d['bytes'] / 1e6:.1f} MB")
        tell_bad(root, split, d)
        if "off_palette" in d:
            print(f"  {d['off_palette']:.2%} of the label pixels are far from every colour of the palette")
    if others:
        named = ", ".join(others[:NAMED]) + (", ..." if len(others) > NAMED else "")
        print(f"{len(others)} files of the source belong to no sample and were left out: {named}")
    print(f"{written} shards written in {seconds:.1f} s; {root} fingerprint {described['fingerprint'][:16]}")
    if tracker is not None:
        for split, d in described["splits"].items():
            figures = {"samples": d["samples"], "bad": d["bad"], "bytes": d["bytes"]}
            tracker.scalars({f"shard/{split}_{name}": float(value) for name, value in figures.items()}, step=0)
        tracker.dataset("dataset", described["fingerprint"], root, "training")
        tracker.file(storage.join(root, "dataset.json"))


if __name__ == "__main__":
    command.main(Config, run, __doc__)
