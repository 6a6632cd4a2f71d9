"""The searches of IMLE against the bare computing they need. Conditional: generator, feature network, distances.

overhead: 1 - (time of the bare computing) / (time of `IMLE.search`), median over rounds in which both sides take turns;
the bare side has its noise drawn before, and computes each target's features once, too. memory_growth_10x: peak memory
of a fresh process with ten times the candidates, against it. scaling_2_actors: the gain of two Ray actors of one thread
over one, divided by the gain of two plain processes of the same kernel.

Unconditional: unconditional_ratio is the time of `pipeline.search.match` with rejection over that of torch.matmul, row
minima and column minima of the same blocks; unconditional_ratio_epsilon_0 the same without rejection and column minima.
Gaussian vectors; epsilon rejects about a tenth of the pool.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

import models.imle
from jobs.bench.harness.processes import peak_of
from jobs.bench.harness.scaling import scaling
from jobs.bench.harness.turns import turns
from models.common.seeds import seeded
from models.common.vgg import VGG
from models.family import Batch
from models.group import Group
from models.imle import IMLE
from pipeline.search import match

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
    queries: int = 2000
    """n of the unconditional search."""
    pool: int = 20_000
    """Samples that all its queries share."""
    dimension: int = 1000
    """Of its vectors."""
    rounds: int = 15
    threads: int = 2


def run(config: Config) -> dict[str, float]:
    """Returns overhead, candidates_per_second, memory_growth_10x, peak_mb, scaling_2_actors, gain_2_processes,
    unconditional_ratio, unconditional_ratio_epsilon_0."""
    torch.set_num_threads(config.threads)
    return {**unconditional(config), **conditional(config)}


def conditional(config: Config) -> dict[str, float]:
    """The figures of `IMLE.search`."""
    family, batch, seeds = family_of(config), pairs(config), list(range(config.pairs))
    rounds = turns({"bare": bare(family, batch, seeds), "mine": lambda: family.search(batch, seeds)}, config.rounds)
    few, many = (
        peak_of(_search_one, replace(config, samples=m, pairs=1)) for m in (config.samples, 10 * config.samples)
    )
    gains = scaling(searcher, [replace(config, pairs=1)], 8)
    return {
        "overhead": 1 - statistics.median(each["bare"] / each["mine"] for each in rounds),
        "candidates_per_second": config.pairs * config.samples / statistics.median(each["mine"] for each in rounds),
        "memory_growth_10x": many / few - 1,
        "peak_mb": few / 1024,
        "scaling_2_actors": gains["scaling_2"],
        "gain_2_processes": gains["gain_2_processes"],
    }


def unconditional(config: Config) -> dict[str, float]:
    """The figures of `pipeline.search.match`."""
    generator = seeded("unconditional")
    queries, pool = (torch.randn(n, config.dimension, generator=generator) for n in (config.queries, config.pool))
    closest = torch.cdist(pool[:500], queries).amin(dim=1)
    ratios = {}
    for name, epsilon in (("", float(closest.quantile(0.1))), ("_epsilon_0", 0.0)):
        sides: dict[str, Callable[[], object]] = {
            "bare": partial(minima, queries, pool, epsilon > 0),
            "mine": partial(match.match, queries, pool, epsilon),
        }
        rounds = turns(sides, config.rounds)
        ratios[f"unconditional_ratio{name}"] = statistics.median(each["mine"] / each["bare"] for each in rounds)
    return ratios


def minima(queries: Tensor, pool: Tensor, columns: bool) -> None:
    """The products of both, the minima of their rows and where they are, and with `columns` those of their columns."""
    room = torch.empty(len(queries) * match.BLOCK)
    least, place = torch.full((len(queries),), torch.inf), torch.zeros(len(queries), dtype=torch.int64)
    for number, block in enumerate(torch.split(pool, match.BLOCK)):
        scores = room[: len(queries) * len(block)].view(len(queries), len(block))
        torch.matmul(queries, block.T, out=scores)
        found, at = scores.min(dim=1)
        place = torch.where(found < least, at + number * match.BLOCK, place)
        least = torch.minimum(found, least)
        if columns:
            scores.amin(dim=0)


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


def searcher(config: Config) -> Callable[[int], int]:
    """The kernel of the scaling figure: one pair's search, by an actor or a plain process."""
    family, batch = family_of(config), pairs(config)

    def work(number: int) -> int:
        return int(family.search(batch, [number])["candidate"][0])

    return work


def _search_one(config: Config) -> None:
    torch.set_num_threads(1)
    searcher(config)(0)
