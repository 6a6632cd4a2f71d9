"""What a device itself does: the rates that everything else is a share of."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from jobs.bench.harness.turns import wait
from pipeline.search import bounds
from pipeline.search.bounds import Kind

ROUNDS = 10


def seconds(device: torch.device, work: Callable[[], object], rounds: int = ROUNDS, warm: int = 3) -> float:
    """Of one `work`, the median; each round is waited for."""
    for _ in range(warm):
        work()
    found = []
    for _ in range(rounds):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def measured(device: torch.device, side: int) -> dict[Kind, float]:
    """Floating point operations a second of products of two matrices of `side`, random numbers, by kind."""
    found: dict[Kind, float] = {}
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(side, side, generator=generator) for _ in range(2))
    for kind in bounds.KINDS:
        a, b = (bounds.rounded(v.clone().to(device), kind) for v in (x, y))
        with bounds.rounding(kind):
            taken = seconds(device, lambda a=a, b=b: a @ b)  # type: ignore[misc]
        found[kind] = 2 * side**3 / taken
    return found


def about(device: torch.device) -> dict[str, object]:
    """The device's name and what runs it."""
    if device.type != "cuda":
        return {"device": str(device), "torch": torch.__version__}
    facts = torch.cuda.get_device_properties(device)
    memory = {"memory_gb": facts.total_memory / 1e9, "cuda": torch.version.cuda}
    return {"device": facts.name, "torch": torch.__version__, **memory}
