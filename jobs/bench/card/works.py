"""What `jobs.bench gpu` times: StEP's and conditional IMLE's steps and search, on random pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import torch

import models.imle
import models.step
from models.common.seeds import seeded
from models.common.vgg import VGG
from models.family import Batch, Family
from models.group import Group
from pipeline.training.feed import to_device

SEARCHED = 4
"""Pairs of a search that is timed."""
SEARCHES = 2
"""Searches that are timed: each draws ten times as many pictures as a step."""
PERCEPTUAL_VALUE = 150.0
"""Of StEP's loss where its factors are calibrated."""


@dataclass(frozen=True)
class Work:
    """What is timed: one call makes `images` images' step, or search."""

    family: Family
    call: Callable[[], object]
    images: int
    compiled: tuple[tuple[Any, str], ...]
    """(network, method) of each call that can be compiled."""


def each(size: int, batch: int, device: torch.device, tiny: bool = False) -> Iterator[tuple[str, Callable[[], Work]]]:
    """(name, what makes it) of each: StEP's encoder, generator and finetune stages, conditional IMLE's step and search.
    tiny: presets `tiny`, at their own
    size."""
    preset = "tiny" if tiny else "paper"
    sized: dict[str, Any] = {} if tiny else {"size": size}
    # The papers' factors would ask for one network's weights; here all are random.
    step = replace(
        models.step.PRESETS[preset], batch=batch, encoder_batch=batch, perceptual_value=PERCEPTUAL_VALUE, **sized
    )
    imle = replace(models.imle.PRESETS[preset], batch=batch, set_batch=SEARCHED, **sized)
    for stage in ("encoder", "generator", "finetune"):
        yield f"step {stage}", lambda stage=stage: _step(step, stage, device)  # type: ignore[misc]
    yield "imle step", lambda: _imle(imle, device, search=False)
    yield "imle search", lambda: _imle(imle, device, search=True)


def _perceptual(recipe: Any) -> VGG | None:
    if not recipe.perceptual_layers:
        return None
    settings = recipe.perceptual_preprocessing, recipe.perceptual_pooling, recipe.perceptual_pools
    return VGG(recipe.perceptual_net, recipe.perceptual_layers, *settings).random(0)


def _pictures(count: int, recipe: Any, device: torch.device, number: int, *names: str) -> Batch:
    height, width = recipe.frame
    shape = count, 3, height, width
    return {n: (torch.rand(shape, generator=seeded("bench", n, number)) * 2 - 1).to(device) for n in names}


def _step(recipe: Any, stage: str, device: torch.device) -> Work:
    family = models.step.build(recipe, Group(alone=True), _perceptual(recipe)).to(device)
    family.enter(stage)
    images = family.streams(stage)["triplets" if stage == "encoder" else "pairs"].batch
    names = ("anchor", "positive", "negative") if stage == "encoder" else ("input", "target")
    # Two, in turn: the perceptual factors are calibrated on pairs that differ.
    batches = cycle([_pictures(images, recipe, device, number, *names) for number in range(2)])
    compiled = ("encoder", "moments"), ("generator", "forward"), ("discriminator", "forward")
    nets = tuple((getattr(family, net), method) for net, method in compiled)
    return Work(
        family, lambda: family.update(lambda _: next(batches), 0), images, (*nets, *_forward(family.perceptual))
    )


def _imle(recipe: Any, device: torch.device, search: bool) -> Work:
    family: Any = models.imle.build(recipe, Group(alone=True), _perceptual(recipe)).to(device)
    family.enter("imle")
    count = SEARCHED if search else recipe.batch
    batch = _pictures(count, recipe, device, 0, "input", "target")
    if recipe.condition == "labels":
        ids = torch.randint(0, recipe.labels, (count, *recipe.frame), generator=seeded("bench", "labels"))
        batch["input"] = ids.to(device)
    batch |= {"index": torch.arange(count), "row": torch.arange(count), "time": torch.zeros(count, dtype=torch.int64)}
    batch |= {"seed": torch.arange(count), "candidate": torch.zeros(count, family._heads, dtype=torch.int64)}
    batch = to_device(batch, device)
    family.distance.calibrate(torch.ones(1, len(family.distance.layers), device=device), 1.0)
    compiled = (family.generator, "pictures"), (family.encoder, "forward"), *_forward(family.distance)
    if search:
        return Work(family, lambda: family.search(batch, list(range(count))), count, compiled)
    return Work(family, lambda: family.update(lambda _: batch, 0), count, compiled)


def _forward(loss: Any) -> list[tuple[Any, str]]:
    """The perceptual network's."""
    return [(loss.vgg, "forward")] if loss.present else []
