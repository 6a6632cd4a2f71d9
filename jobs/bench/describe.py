"""Describing images against a bare loop that only runs the network and the Gram products on tensors in memory.

Also the peak memory of a describing process for ten times the images. ratio_to_bare is the median over rounds in which
both sides take turns, in this process, on the same threads.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass, field
from typing import Annotated

import torch
import tyro

from jobs import shard
from jobs.bench.harness.processes import peak_of
from jobs.bench.harness.turns import turns
from models.common import vgg
from pipeline.data import tensors
from pipeline.data.shards import DataSet
from pipeline.style import descriptors
from pipeline.style.descriptors import DescribeOptions, Describer
from pipeline.style.weights import load_weights


@dataclass(frozen=True)
class Config:
    """Sizes of the measurement."""

    weights: str = "random"
    """As jobs.describe."""
    side: int = 112
    """Pixels of the demo crops. Smaller ones take less computing for the same vector, and so a lower ratio."""
    images: int = 128
    """A round's images; about this many, a multiple of the demo's photographs."""
    rounds: int = 5
    """Turns of each side."""
    threads: int = 1
    """CPU threads."""
    memory: bool = True
    """Measure memory_growth_10x too."""
    describe: Annotated[DescribeOptions, tyro.conf.arg(name="")] = field(default_factory=DescribeOptions)
    """Network, layers, precision."""


def run(config: Config) -> dict[str, float]:
    """Returns ratio_to_bare, images_per_second, bare_images_per_second, memory_growth_10x, peak_mb."""
    torch.set_num_threads(config.threads)
    with tempfile.TemporaryDirectory() as folder:
        crops = max(1, config.images // 16)
        for name, count in (("one", crops), ("ten", crops * 10)):
            given = shard.Config(
                source="demo", output=f"{folder}/{name}", size=config.side, crops=count, shard_size=16 * crops
            )
            shard.run(given)
        figures = _speed(config, folder)
        if config.memory:
            one, ten = (
                peak_of(_describe_all, config, f"{folder}/{name}", f"{folder}/{name}-out") for name in ("one", "ten")
            )
            figures |= {"memory_growth_10x": ten / one - 1, "peak_mb": one / 1024}
    return figures


def _speed(config: Config, folder: str) -> dict[str, float]:
    options = config.describe
    net, _ = load_weights(config.weights, options.net, options.layers)
    data = DataSet(f"{folder}/one")
    work = descriptors.shard_describer(f"{folder}/one", "train", f"{folder}/out", options, net)
    describer = Describer(net, options.layer_weights, options.precision)
    pixels = [descriptors.prepare(data.image(i, "target"), options.size, 1) for i in range(len(data))]
    batches = [
        tensors.pictures_to_tensor(pixels[i : i + options.batch]).contiguous(memory_format=torch.channels_last)
        for i in range(0, len(pixels), options.batch)
    ]

    @torch.no_grad()
    def bare() -> None:
        for batch in batches:
            for f in describer.net(batch).values():
                vgg.gram(f.float())

    def ours() -> None:
        for part in data.shards:
            work(part)

    rounds = turns({"bare": bare, "ours": ours}, config.rounds)
    rates = {name: len(data) / statistics.median(each[name] for each in rounds) for name in ("ours", "bare")}
    return {
        "ratio_to_bare": statistics.median(each["bare"] / each["ours"] for each in rounds),
        "images_per_second": rates["ours"],
        "bare_images_per_second": rates["bare"],
    }


def _describe_all(config: Config, root: str, folder: str) -> None:
    torch.set_num_threads(config.threads)
    options = config.describe
    net, _ = load_weights(config.weights, options.net, options.layers)
    work = descriptors.shard_describer(root, "train", folder, options, net)
    for part in DataSet(root).shards:
        work(part)
