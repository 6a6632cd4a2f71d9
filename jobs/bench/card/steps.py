"""Training steps on a device: images a second, share of its bf16 rate, memory, and how often the host waits."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch._functorch import config as functorch
from torch.utils.flop_counter import FlopCounterMode

from jobs.bench.card.works import Work
from jobs.bench.harness.turns import wait


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


def measured(make: Callable[[], Work], device: torch.device, steps: int, peak: float, how: How) -> dict[str, Any]:
    """images_per_second, share_of_bf16, tflop_per_image, peak_gb, host_waits (a step). What fails is said."""
    try:
        with _set(how, device):
            return _measured(make(), device, steps, peak, how)
    except Exception as error:  # an operator that cannot be compiled, too little memory: the other rows go on
        return {"failed": f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"}
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
