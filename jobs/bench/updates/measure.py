"""Steps timed in turns."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

import models
from jobs.bench.harness.turns import turns
from jobs.bench.updates import plain
from jobs.bench.updates.passes import PASSES, bare, record
from models.common.seeds import seeded
from models.common.vgg import VGG
from models.family import Batch, Family, PerceptualRecipe
from models.group import Group


def family_step(name: str, recipe: Any, rounds: int) -> dict[str, Any]:
    """`update` and the bare sum of its passes; for pix2pix at the paper's size a plain implementation too. CPU seconds
    are those of the whole process; ratios are medians over rounds of the ratios in them."""
    family = _built(name, recipe)
    batches = {stream: _batch(name, family, stream) for stream in family.streams(family.stages[0].name)}
    calls = record(family, name, batches.__getitem__)
    sides: dict[str, Callable[[], object]] = {
        "update": lambda: family.update(batches.__getitem__, 0),
        "bare": bare(family, calls),
    }
    batch = family.stages[0].batch
    if name == "pix2pix" and replace(recipe, batch=1) == models.load(name).PRESETS["paper"]:
        sides["plain"] = plain.stepper(batches["pairs"]["input"], batches["pairs"]["target"])
    walls: dict[str, list[float]] = {side: [] for side in sides}
    seconds = turns({side: _on_the_clock(run, walls[side]) for side, run in sides.items()}, rounds, time.process_time)
    for number, one in enumerate(seconds):
        print(f"  round {number}: " + ", ".join(f"{side} {one[side]:.3f}" for side in sides) + " CPU s", flush=True)
    found: dict[str, Any] = {f"update_ratio_{name}": _ratio(seconds, "bare")}
    if "plain" in sides:
        found["plain_ratio"] = _ratio(seconds, "plain")
    for side in sides:
        found[f"{side}_cpu_seconds"] = statistics.median(one[side] for one in seconds)
    found["images_per_second"] = batch / statistics.median(walls["update"][1:])
    return {"size": list(recipe.frame), "batch": batch, "forwards": dict(Counter(n for n, _ in PASSES[name])), **found}


def _ratio(seconds: list[dict[str, float]], other: str) -> float:
    return statistics.median(one["update"] / one[other] for one in seconds)


def _on_the_clock(run: Callable[[], object], walls: list[float]) -> Callable[[], None]:
    def timed() -> None:
        began = time.perf_counter()
        run()
        walls.append(time.perf_counter() - began)

    return timed


def _built(name: str, recipe: Any) -> Family:
    vgg = None
    if isinstance(recipe, PerceptualRecipe) and recipe.perceptual_layers:
        r = recipe
        settings = (r.perceptual_preprocessing, r.perceptual_pooling, r.perceptual_pools)
        vgg = VGG(r.perceptual_net, r.perceptual_layers, *settings).random(0)
    family: Family = models.load(name).build(recipe, Group(alone=True), vgg)
    family.enter(family.stages[0].name)
    return family


def _batch(name: str, family: Family, stream: str) -> Batch:
    """Random pictures, and maps of squares of 32 pixels."""
    asked = family.streams(family.stages[0].name)[stream]
    specs = models.load(name).fields(family.recipe)
    height, width = family.recipe.frame
    found: Batch = {"index": torch.arange(asked.batch)}
    for field in asked.fields:
        generator, spec = seeded("bench", field), specs[field]
        if spec.kind == "image":
            found[field] = torch.rand(asked.batch, spec.channels, height, width, generator=generator) * 2 - 1
        else:
            most = getattr(family.recipe, "labels", 0) if spec.kind == "labels" else 1000
            ids = torch.randint(0, most, (asked.batch, -(-height // 32), -(-width // 32)), generator=generator)
            found[field] = ids.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, :height, :width]
    return found
