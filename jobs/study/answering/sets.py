"""Samples in memory, features of their pictures, and families trained on them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import models.vqa
from models.common.seeds import seeded
from models.family import Batch, Facts, FieldSpec
from models.group import Group
from models.vqa import Answerers, Matcher
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


def train(preset: models.vqa.Config, some: Set) -> Answerers | Matcher:
    """The family of a recipe, trained on samples in memory."""
    family = models.vqa.build(preset, Group(alone=True), None, some.facts)
    family.enter("main")
    orders: list[int] = []
    seen = 0

    def draw(_: str) -> Batch:
        while len(orders) < preset.batch:
            generator = seeded(preset.seed, "order", seen, len(orders))
            orders.extend(torch.randperm(len(some), generator=generator).tolist())
        rows, orders[: preset.batch] = orders[: preset.batch], []
        return some.part(torch.tensor(rows))

    while seen < preset.questions:
        family.update(draw, seen)
        seen += preset.batch
    return family.eval()


def told(name: str, seeds: Sequence[int], measure: Callable[[int], dict[str, float]]) -> dict[str, list[float]]:
    """`measure(seed)` of each seed; prints means, spreads and seconds."""
    began, rows = time.perf_counter(), [measure(seed) for seed in seeds]
    found = {key: [row[key] for row in rows] for key in rows[0]}
    line = ", ".join(f"{k} {statistics.mean(v):.2f} ({min(v):.2f} to {max(v):.2f})" for k, v in found.items())
    print(f"{name}: {line}; seeds {tuple(seeds)}, {(time.perf_counter() - began) / len(seeds):.0f} s each", flush=True)
    return found


def grids(net: features.Network, pictures: list[np.ndarray], pool: int) -> Tensor:
    """`N h w C`: the deepest layer of pictures of one size, max-pooled by `pool`."""
    parts = [pictures[i : i + 32] for i in range(0, len(pictures), 32)]
    return torch.cat([features.grid(net, pool, pictures_to_tensor(part)) for part in parts])
