"""What one pass for both lists saves, what a sketch costs beside describing, what a second worker gains."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from jobs.bench import neighbours
from jobs.bench.harness.scaling import scaling
from jobs.bench.harness.turns import turns
from jobs.bench.harness.vectors import low_rank
from jobs.bench.style import crops
from jobs.bench.style.sets import Sets
from pipeline.data import tensors
from pipeline.neighbours import exact, lists
from pipeline.neighbours.exact import Plan, Worker
from pipeline.style import descriptors, sketches
from pipeline.style.descriptors import Describer
from pipeline.style.sketches import SketchOptions
from pipeline.style.vectors import Vectors

Array = np.ndarray


@dataclass(frozen=True)
class Options:
    """Sizes of the measurements of speed."""

    n: int = 2048
    """Vectors of the exact search."""
    d: int = 43_232
    """Their length."""
    block: int = 1024
    """Rows of a block."""
    rounds: int = 7
    """Of the measurements that take turns."""
    gemm_n: int = 16_384
    """Vectors of the search that is held against matrix products, in blocks of the largest size: first readings and
    start count less."""
    batch: int = 96
    """Crops that are described and sketched at once: jobs.describe codes a row group's, 97 of these, together."""
    sizes: tuple[int, ...] = (64, 256)
    """Pixels of those crops."""
    bytes: int = 346
    """Of the sketch."""
    items: int = 8
    """Tiles that the workers share."""


def figures(sets: Sets, options: Options, seed: int) -> dict[str, float]:
    """near_far_ratio, fraction_of_gemm (and what jobs.bench neighbours returns beside it), sketch_cost_SIZE,
    scaling_2_workers, gain_2_processes."""
    threads = torch.get_num_threads()
    gemm = neighbours.run(
        neighbours.Config(options.gemm_n, options.d, exact.BLOCK, threads=threads, folder=sets.folder)
    )
    found = {name: gemm[name] for name in ("fraction_of_gemm", "fraction_by_cpu_time", "gflops", "gemm_gflops")}
    with tempfile.TemporaryDirectory(dir=sets.folder) as folder:
        low_rank(f"{folder}/vectors", options.n, options.d)
        found |= near_far(folder, options)
        found |= workers(folder, options)
    return found | sketch_cost(sets, options, seed)


def _tiles(folder: str, name: str, options: Options, near: int, far: int) -> Plan:
    return Plan(f"{folder}/vectors", f"{folder}/{name}", near, far, options.n, options.block, margin=16, spans=1)


def near_far(folder: str, options: Options) -> dict[str, float]:
    """near_far_ratio: seconds of a query block's tile with both lists, over those of one for the nearest and one for
    the furthest alone. Reading and products count in all of them; medians."""
    works = {}
    for name, near, far in (("both", 5, 13), ("near", 5, 0), ("far", 0, 13)):
        works[name] = Tile(_tiles(folder, name, options, near, far))
    rounds = turns({name: work.first for name, work in works.items()}, options.rounds)
    return {"near_far_ratio": statistics.median(t["both"] / (t["near"] + t["far"]) for t in rounds)}


class Tile:
    """The exact search's unit of work, done again and again."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.worker = Worker(plan, lists.centre(Vectors(plan.descriptors)))

    def first(self) -> None:
        self(0)

    def __call__(self, number: int) -> None:
        self.worker.tile(number % len(self.plan.blocks))


def make_tile(plan: Plan) -> Callable[[int], None]:
    """For `scaling`."""
    return Tile(plan)


def workers(folder: str, options: Options) -> dict[str, float]:
    """scaling_2_workers: the gain of a second Ray worker over that of a second plain process."""
    gains = scaling(make_tile, [_tiles(folder, "workers", options, 5, 13)], options.items, min(3, options.rounds))
    return {"scaling_2_workers": gains["scaling_2"], "gain_2_processes": gains["gain_2_processes"]}


def sketch_cost(sets: Sets, options: Options, seed: int) -> dict[str, float]:
    """sketch_cost_SIZE: (describing and sketching a batch of real crops) / describing it - 1, medians of rounds."""
    vectors = sets.fitted(next(iter(sets.names)))
    fit = SketchOptions(bytes=options.bytes, rows=len(vectors), seed=seed)
    sketch, _ = sketches.fit(vectors, vectors.valid, fit)
    pictures = crops.pictures(next(iter(sets.names.values())))
    describer = Describer(sets.net)
    found: dict[str, float] = {}
    for size in options.sizes:
        square = [descriptors.prepare(p, size, size) for p in pictures[: options.batch]]
        x = tensors.pictures_to_tensor([square[i % len(square)] for i in range(options.batch)])
        sides = {"describe": _describing(describer, x), "both": _describing(describer, x, sketch)}
        rounds = turns(sides, options.rounds)
        found[f"sketch_cost_{size}"] = statistics.median(t["both"] / t["describe"] for t in rounds) - 1
    found["sketch_cost"] = found[f"sketch_cost_{options.sizes[0]}"]
    return found


def _describing(describer: Describer, x: Any, sketch: sketches.Sketch | None = None) -> Callable[[], object]:
    def work() -> object:
        vectors: Array = describer(x).numpy()
        return vectors if sketch is None else sketch(vectors)

    return work
