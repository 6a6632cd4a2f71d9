"""Samples in memory, features of their pictures, and families trained on them."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

import models.vqa
from models.common.seeds import seeded
from models.family import Batch, Facts, FieldSpec
from models.group import Group
from models.vqa import Answerers, Matcher
from pipeline.artifacts import storage
from pipeline.data import kinds
from pipeline.data.samples import Entry, Source
from pipeline.data.tensors import pictures_to_tensor
from pipeline.style import features


@dataclass(frozen=True)
class Set:
    """Samples as a family's batches, all in one."""

    batch: Batch
    facts: Facts

    def __len__(self) -> int:
        return len(self.batch["index"])

    def part(self, rows: Tensor) -> Batch:
        return {name: value[rows] for name, value in self.batch.items()}


def read(
    source: Source, entries: list[Entry], specs: Mapping[str, FieldSpec], facts: Facts | None, choice: float = 0.0
) -> Set:
    """The fields of `specs` of some entries, numbered by `facts` (none: their own)."""
    batch: Batch = {"index": torch.arange(len(entries))}
    known = dict(facts.fields) if facts else {}
    for name, spec in specs.items():
        kind = kinds.named(spec.kind)
        values = [kind.read(source.reader(entry.files[name], name)) for entry in entries]
        if name not in known:
            known[name] = kind.facts(values, ())
        batch |= kind.batch(name, values, spec, dict(known[name]), [choice] * len(values))
    return Set(batch, facts or Facts(len(entries), known))


def with_pictures(some: Set, grid: Tensor) -> Set:
    """Features `N h w C` as the fields that the networks see."""
    shapes_ = {"grid": {"shape": list(grid.shape[1:])}, "vector": {"shape": [grid.shape[-1]]}}
    return Set(
        {**some.batch, "grid": grid, "vector": grid.mean((1, 2))}, Facts(len(grid), {**some.facts.fields, **shapes_})
    )


def evened(sets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Features of splits in a range where tanh is not flat: the training split's root mean square becomes 0.4."""
    scale = 0.4 / float(sets["train"].square().mean().sqrt())
    return {split: grid * scale for split, grid in sets.items()}


def train(
    preset: models.vqa.Config, some: Set, judge: Callable[[Answerers | Matcher], float] | None = None, passes: int = 1
) -> tuple[Answerers | Matcher, list[float]]:
    """The family of a recipe, trained on samples in memory. With `judge` it is judged `passes` times while it trains,
    evenly, and has the weights of the time when the figure was highest; those figures come second."""
    family = models.vqa.build(preset, Group(alone=True), None, some.facts)
    family.enter("main")
    orders: list[int] = []
    figures: list[float] = []
    best = family.state_dict()

    def draw(_: str) -> Batch:
        while len(orders) < preset.batch:
            generator = seeded(preset.seed, "order", seen, len(orders))
            orders.extend(torch.randperm(len(some), generator=generator).tolist())
        rows, orders[: preset.batch] = orders[: preset.batch], []
        return some.part(torch.tensor(rows))

    steps = -(-preset.questions // preset.batch)
    for step in range(steps):
        seen = step * preset.batch
        family.update(draw, seen)
        if judge is not None and (step + 1) * passes // steps > step * passes // steps:
            figures.append(judge(family.eval()))
            if figures[-1] == max(figures):
                best = {name: value.clone() for name, value in family.state_dict().items()}
            family.train()
    if judge is not None:
        family.load_state_dict(best)
    return family.eval(), figures


Row = dict[str, float]


class Table:
    """The study's table: a row a network, measured with several seeds. Rows are kept in `folder`, a file a seed, and
    are not measured again by the same settings."""

    def __init__(self, folder: str, seeds: Sequence[int]) -> None:
        """`folder`: none: nothing is kept."""
        self.folder, self.seeds = folder, tuple(seeds)

    def row(
        self, name: str, settings: object, measure: Callable[[int], Row], seeds: Sequence[int] = ()
    ) -> dict[str, list[float]]:
        """`measure(seed)` of each seed (of `seeds`; none: the table's); prints means, smallest and largest. `settings`:
        all that the figures depend on beside the seed and the code, JSON values or dataclasses."""
        asked, seeds = json.loads(json.dumps(settings, default=asdict)), tuple(seeds) or self.seeds
        rows = [self._kept(name, asked, seed, measure) for seed in seeds]
        found = {key: [row[key] for row in rows] for key in rows[0]}
        line = ", ".join(f"{k} {statistics.mean(v):.2f} ({min(v):.2f} to {max(v):.2f})" for k, v in found.items())
        print(f"{name}: {line}; seeds {seeds}", flush=True)
        return found

    def _kept(self, name: str, settings: object, seed: int, measure: Callable[[int], Row]) -> Row:
        path = storage.join(self.folder, "rows", f"{name} {seed}.json") if self.folder else ""
        if path and storage.exists(path):
            kept = storage.read_json(path)
            if kept["settings"] == settings:
                figures: Row = kept["figures"]
                return figures
        began = time.perf_counter()
        figures = {**measure(seed), "seconds": time.perf_counter() - began}
        if path:
            storage.publish_json(path, {"settings": settings, "figures": figures})
        return figures


def grids(net: features.Network, pictures: list[np.ndarray], pool: int) -> Tensor:
    """`N h w C`: the deepest layer of pictures of one size, max-pooled by `pool`."""
    parts = [pictures[i : i + 32] for i in range(0, len(pictures), 32)]
    return torch.cat([features.grid(net, pool, pictures_to_tensor(part)) for part in parts])
