"""Training steps on a device: images a second, share of its bf16 rate, memory, and how often the host waits."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import torch
from torch._functorch import config as functorch
from torch.utils.flop_counter import FlopCounterMode

import models.imle
import models.step
from jobs.bench.card.rates import wait
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
class How:
    """In what numbers, in what order, compiled or not."""

    products: str = "highest"
    """Of float32, as `torch.set_float32_matmul_precision` takes it; convolutions likewise."""
    bf16: bool = False
    """Autocast, as --run.precision bf16."""
    channels_last: bool = False
    compiled: str = ""
    """Mode of torch.compile; empty: not compiled."""


HOWS = {
    "fp32": How(),
    "tf32": How("high"),
    "bf16": How("high", True),
    "bf16, channels last": How("high", True, True),
    "bf16, channels last, compiled": How("high", True, True, "default"),
    "bf16, channels last, compiled, graphs": How("high", True, True, "reduce-overhead"),
}


@dataclass(frozen=True)
class Work:
    """What is timed: one call makes `images` images' step, or search."""

    family: Family
    call: Callable[[], object]
    images: int
    compiled: tuple[tuple[Any, str], ...]
    """(network, method) of each call that can be compiled."""


def works(size: int, batch: int, device: torch.device, tiny: bool = False) -> Iterator[tuple[str, Callable[[], Work]]]:
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


def measured(make: Callable[[], Work], device: torch.device, steps: int, peak: float, how: How) -> dict[str, Any]:
    """images_per_second, share_of_bf16, tflop_per_image, peak_gb, host_waits (a step). What fails is said."""
    try:
        with _set(how, device):
            return _measured(make(), device, steps, peak, how)
    except Exception as error:  # an operator that cannot be compiled, too little memory: the other rows go on
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
    finally:
        if how.compiled:
            torch.compiler.reset()
        if device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def _set(how: How, device: torch.device) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(how.products)
    flags = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=how.products != "highest")
    try:
        # A compiled network's buffers are its own: StEP takes two gradients through one forward pass.
        with flags if device.type == "cuda" else nullcontext(), functorch.patch(donated_buffer=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _measured(work: Work, device: torch.device, steps: int, peak: float, how: How) -> dict[str, Any]:
    def once() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=how.bf16, cache_enabled=False):
            work.call()

    if how.channels_last:  # before the first step, as the optimisers' moments lie like the weights
        work.family.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    once()  # what is calibrated or matched at first is not counted
    with FlopCounterMode(display=False) as counter:
        once()
    operations = counter.get_total_flops()
    if how.compiled:
        for net, method in work.compiled:
            setattr(net, method, torch.compile(getattr(net, method), mode=how.compiled))
    for _ in range(3):
        once()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    wait(device)
    began = time.perf_counter()
    for _ in range(steps):
        once()
    wait(device)
    taken = (time.perf_counter() - began) / steps
    found: dict[str, Any] = {
        "images_per_second": work.images / taken,
        "share_of_bf16": operations / taken / peak,
        "tflop_per_image": operations / work.images / 1e12,
    }
    if device.type == "cuda":
        found |= {"peak_gb": torch.cuda.max_memory_allocated(device) / 1e9, "host_waits": _waits(once)}
    return found


def _waits(once: Callable[[], None]) -> int:
    """How often one step makes the host wait for the GPU."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            once()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(one.message) for one in told)
