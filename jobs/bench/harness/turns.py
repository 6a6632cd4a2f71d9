"""Timing several sides of a comparison in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch


def wait(device: torch.device) -> None:
    """Until all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def turns(
    sides: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[dict[str, float]]:
    """Seconds of each side in each round, after one that is not counted; each round begins with another."""
    names = list(sides)
    found = []
    for number in range(rounds + 1):
        times = {}
        for name in (*names[number % len(names) :], *names[: number % len(names)]):
            began = clock()
            sides[name]()
            times[name] = clock() - began
        found.append(times)
    return found[1:]
