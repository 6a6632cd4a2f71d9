"""Describe each image's style: python -m jobs.describe --data data/demo --output data/styles --weights vgg19.pth

The descriptor is made of Gram matrices of a VGG's layers; the squared distance of two is StEP's style distance.
The same command again resumes: finished parts are not computed again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jobs import command
from pipeline.artifacts import artifact, storage
from pipeline.artifacts.fill import Parts, Request, fill
from pipeline.data.shards import DataSet
from pipeline.style import descriptors, sketches, weights
from pipeline.style.descriptors import DescribeOptions
from pipeline.style.vectors import bad_rows

if TYPE_CHECKING:
    from pipeline.tracking.journal import Tracker


@dataclass(frozen=True)
class Config:
    """What to describe, with what, and where to."""

    data: str
    """Folder of a finished data set (jobs.shard), local or s3://."""
    output: str
    """Folder of the descriptors, local or s3://."""
    weights: str = "torchvision"
    """Path or URL of a torchvision-format checkpoint, `torchvision` (its own URL), or `random`."""
    weights_sha256: str = ""
    """The file's hash, or its first digits; checked."""
    weights_seed: int = 0
    """For `random`."""
    sketch: str = ""
    """Folder of a fitted sketch (jobs.sketch): its codes are kept in place of the vectors, which are never stored."""
    split: str = "train"
    """Split of the data set."""
    describe: Annotated[DescribeOptions, tyro.conf.arg(name="")] = field(default_factory=DescribeOptions)
    """Network, layers, size, precision."""
    workers: int = 2
    """Ray actors, each with its own network; does not change a byte."""
    threads: int = 1
    """CPU threads an actor; may change last bits."""
    gpus: float = 0
    """GPUs an actor, which run the network; less than 1: actors share one, each decoding. Changes last bits."""
    max_bad_share: float = 0.01
    """The job fails, after finishing its count, when more of the images cannot be described."""

    def __post_init__(self) -> None:
        if self.workers < 0 or self.threads < 1:
            raise ValueError(f"--workers {self.workers}, --threads {self.threads}: give at least 0, 1")
        if self.gpus < 0:
            raise ValueError(f"--gpus {self.gpus}: give 0 or more")


def run(config: Config, tracker: Tracker | None = None) -> artifact.Card:
    """Describe what is missing; returns the card.

    Raises:
        ValueError: no data set, field or weights, too many bad images, or another artifact in the folder.
    """
    began = time.perf_counter()
    root = storage.absolute(config.data, "--data")
    folder = storage.output(config.output)
    options, data = config.describe, DataSet(root, config.split)
    if options.field not in data.fields:
        raise ValueError(f"--field {options.field}: {root} has {', '.join(data.fields)}")
    net, origin = weights.load_weights(
        config.weights,
        options.net,
        options.layers,
        config.weights_sha256,
        config.weights_seed,
        options.preprocessing,
        options.pooling,
    )
    inputs, hashed = descriptors.request(data, origin.identity, options)
    sketch = storage.absolute(config.sketch, "--sketch") if config.sketch else ""
    codec = sketches.check(sketch, inputs, hashed) if sketch else {}
    card, made = fill(
        folder,
        "describe",
        Request("descriptors", descriptors.VERSION, inputs, hashed),
        lambda: _finish(config, folder, data, origin, codec),
        Parts(
            data.shards,
            descriptors.shard_describer,
            [root, config.split, folder, options, net, sketch, "cuda" if config.gpus else "cpu"],
            config.workers,
            config.threads,
            config.gpus,
        ),
    )
    seconds = time.perf_counter() - began
    print(
        f"{len(data)} images described with {origin}, {made} of {len(data.shards)} parts now, "
        f"{card['notes']['bad']} bad, {seconds:.1f} s: {folder}"
    )
    if tracker is not None:
        tracker.dataset(root.rsplit("/", 1)[-1], data.fingerprint, root, "describe")
        tracker.scalars({"describe/seconds": seconds, "describe/images": len(data)}, 0)
        tracker.parameters({"describe/weights": str(origin), "describe/random_weights": origin.random})
        tracker.file(storage.join(folder, "card.json"))
    return card


def _finish(
    config: Config, folder: str, data: DataSet, origin: weights.Weights, codec: dict[str, Any]
) -> artifact.Card:
    bad = bad_rows(folder, range(len(data.shards)))
    if len(bad) > config.max_bad_share * len(data):
        raise ValueError(
            f"--max-bad-share {config.max_bad_share}: {len(bad)} of {len(data)} images cannot be described; first "
            f"{bad[0][0]}: {bad[0][1]}"
        )
    notes = {
        "weights": origin.name,
        "weights_sha256": origin.sha256,
        "random_weights": origin.random,
        "bad": len(bad),
        "bad_first": [f"{key}: {reason}" for key, reason in bad[:10]],
        **codec,
    }
    return artifact.finish(folder, data.shards, notes)


if __name__ == "__main__":
    command.main(Config, run, __doc__)
