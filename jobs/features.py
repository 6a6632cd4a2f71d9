"""Compute features of pictures: python -m jobs.features --data data/vqa --output data/vqa-features --weights vgg19.pth

The output is a data set with the same samples and two fields more: grid, a vector for each region (14 x 14 x 512 of
VGG-19's last pooling), and vector, their mean. `jobs.train vqa` reads them in place of pixels. The same command again
resumes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jobs import command
from jobs.shard import tell_bad
from pipeline.artifacts import storage
from pipeline.data import shards
from pipeline.data.sharding import ShardOptions, shard
from pipeline.style.features import FeatureOptions, Features, network

if TYPE_CHECKING:
    from pipeline.tracking.journal import Tracker


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to compute, with what, and where to."""

    data: str
    """Folder of a finished data set (jobs.shard), local or s3://."""
    output: str
    """Folder of the new data set, local or s3://."""
    weights: str = "torchvision"
    """Path or URL of a torchvision-format checkpoint, `torchvision` (a VGG's own URL), or `random` (VGGs)."""
    weights_sha256: str = ""
    """The file's hash, or its first digits; checked."""
    features: Annotated[FeatureOptions, tyro.conf.arg(name="")] = field(default_factory=FeatureOptions)
    """Network, layer, size."""
    shard_size: int = 64
    """Samples per shard: the unit of work, retry and resume."""
    workers: int = 2
    """Ray workers, each with its own network; does not change a byte."""
    max_bad_share: float = 0.01
    """After checking all samples, the job fails if a larger share is bad."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"--workers {self.workers}: give at least 0")


def run(config: Config, tracker: Tracker | None = None) -> dict[str, Any]:
    """Compute what is missing; returns dataset.json's content.

    Raises:
        ValueError: no data set, field or weights, too many bad samples, or another data set in the folder.
    """
    began = time.perf_counter()
    root, folder = storage.absolute(config.data, "--data"), storage.output(config.output)
    net, origin = network(config.weights, config.features, config.weights_sha256)
    source = Features(root, list(shards.load(root)["splits"]), config.features, net)
    options = ShardOptions(shard_size=config.shard_size)
    described, written = shard(
        folder, source, source.described(origin.identity), root, options, config.workers, config.max_bad_share
    )
    samples = sum(split["samples"] for split in described["splits"].values())
    seconds = time.perf_counter() - began
    for split, part in described["splits"].items():
        tell_bad(folder, split, part)
    print(f"{samples} samples with features by {origin}, {written} shards written in {seconds:.1f} s: {folder}")
    if tracker is not None:
        tracker.dataset("features", described["fingerprint"], folder, "training")
        tracker.scalars({"features/seconds": seconds, "features/samples": float(samples)}, 0)
        tracker.parameters({"features/weights": str(origin), "features/random_weights": origin.random})
    return described


if __name__ == "__main__":
    command.main(Config, run, __doc__)
