"""The search of conditional IMLE against the bare computing it needs: generator, feature network, distances.

overhead: 1 - (time of the bare computing) / (time of `IMLE.search`), median over rounds in which both sides take turns;
the bare side has its noise drawn before, and computes each target's features once, too. memory_growth_10x: peak memory
of a fresh process with ten times the candidates, against it. scaling_2_actors: the gain of two Ray actors of one thread
over one, divided by the gain of two plain processes of the same kernel.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import models.imle
from jobs.bench._scaling import scaling
from models.common.seeds import seeded
from models.common.vgg import VGG
from models.family import Batch, Group
from models.imle import IMLE

LAYERS = ("relu1_2", "relu2_2", "relu3_1")


@dataclass(frozen=True)
class Config:
    """Sizes of the measurement."""

    size: int = 32
    """Pixels."""
    width: int = 64
    """Channels of the refinement modules."""
    pairs: int = 4
    """Pairs searched a round."""
    samples: int = 20
    """m."""
    rounds: int = 5
    threads: int = 2


def run(config: Config) -> dict[str, float]:
    """Returns overhead, candidates_per_second, memory_growth_10x, peak_mb, scaling_2_actors, gain_2_processes."""
    torch.set_num_threads(config.threads)
    family, batch, seeds = family_of(config), pairs(config), list(range(config.pairs))
    computing = bare(family, batch, seeds)
    computing()
    rounds = []
    for number in range(config.rounds):
        times = {}
        for side in ("search", "bare") if number % 2 else ("bare", "search"):
            began = time.perf_counter()
            if side == "bare":
                computing()
            else:
                family.search(batch, seeds)
            times[side] = time.perf_counter() - began
        rounds.append((times["bare"], times["search"]))
        print(f"round {number}: bare {times['bare']:.3f} s, search {times['search']:.3f} s", flush=True)
    few, many = (_peak(replace(config, samples=m)) for m in (config.samples, 10 * config.samples))
    gains = scaling(make, [replace(config, pairs=1)], 8)
    return {
        "overhead": 1 - statistics.median(bare / search for bare, search in rounds),
        "candidates_per_second": config.pairs * config.samples / statistics.median(search for _, search in rounds),
        "memory_growth_10x": many / few - 1,
        "peak_mb": few / 1024,
        "scaling_2_actors": gains["scaling_2"],
        "gain_2_processes": gains["gain_2_processes"],
    }


def family_of(config: Config) -> IMLE:
    """The family at this size, with random VGG-19 weights (they take as long as any)."""
    levels = (config.size // 4).bit_length()
    recipe = replace(
        models.imle.PRESETS["facades"],
        size=config.size,
        widths=(config.width,) * levels,
        perceptual_layers=LAYERS,
        perceptual_preprocessing="imagenet",
        samples=config.samples,
    )
    family = models.imle.build(recipe, Group(alone=True), VGG("vgg19", LAYERS, pooling="average").random(0))
    family.distance.factors.fill_(1.0)
    family.enter("imle")
    return family


def pairs(config: Config) -> Batch:
    """Random label maps and pictures."""
    generator = seeded("match")
    shape = (config.pairs, config.size, config.size)
    ids = torch.randint(0, 12, shape, generator=generator)
    target = torch.rand(shape[0], 3, *shape[1:], generator=generator) * 2 - 1
    return {"input": ids, "target": target, "index": torch.arange(config.pairs)}


def bare(family: IMLE, batch: Batch, seeds: list[int]) -> Callable[[], None]:
    """Generator, features and distances of the same candidates in the same batches, and nothing else."""
    r = family.recipe
    x = family.condition(batch["input"])
    every = torch.arange(r.samples)[:, None]
    noise = [family.noise(torch.full((r.samples,), seed), every, x.shape[2:])[0] for seed in seeds]

    @torch.no_grad()
    def computing() -> None:
        for i in range(len(x)):
            wanted = family.distance.features(batch["target"][i : i + 1])
            for z in torch.split(noise[i], r.search_batch):
                fake = family.picture(x[i : i + 1].expand(len(z), -1, -1, -1), [z])
                family.distance.total(family.distance.features(fake), wanted)

    return computing


def make(config: Config) -> Callable[[int], int]:
    """The kernel of the scaling figure: one pair's search, by an actor or a plain process."""
    family, batch = family_of(config), pairs(config)

    def work(number: int) -> int:
        return int(family.search(batch, [number])["candidate"][0])

    return work


def _peak(config: Config) -> int:
    """KiB: the largest resident memory of a fresh process that searches one pair."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return int(pool.apply(_search_one, (replace(config, pairs=1),)))


def _search_one(config: Config) -> int:
    torch.set_num_threads(1)
    make(config)(0)
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
