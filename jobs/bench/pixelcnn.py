"""PixelCNN: the cached sampler against whole passes, and the training step against its own network.

speedup_N: seconds of N pictures by whole passes (one for each pixel) / by the cached sampler, same uniform numbers. All
whole passes cost the same: `passes` of them are timed, and counted for all pixels. update_ratio: time of `update` /
time of the bare forward and backward of the same network on the same levels, median over rounds in turns; the rest of
`update` is the loss' bits, the optimiser and the weight average.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace

import torch

from jobs.bench.harness.turns import turns
from models import pixelcnn
from models.common.seeds import seeded
from models.family import Batch
from models.group import Group
from models.pixelcnn import PixelCNN


@dataclass(frozen=True)
class Config:
    """Sizes of the measurement."""

    preset: str = "mnist"
    """Whose network; the presets `mnist*` are 28 x 28 pixels."""
    batches: tuple[int, ...] = (1, 16, 64)
    """Pictures drawn at once."""
    passes: int = 3
    """Whole passes that are timed."""
    train_batch: int = 16
    """Pictures of a training step."""
    rounds: int = 7
    threads: int = 1


def run(config: Config) -> dict[str, float]:
    """Returns speedup_N and cached_seconds_N for each batch, update_ratio, update_seconds."""
    torch.set_num_threads(config.threads)
    recipe = replace(pixelcnn.PRESETS[config.preset], batch=config.train_batch)
    if recipe.condition != "none":
        raise ValueError(f"--preset {config.preset}: give one without a condition")
    family = pixelcnn.build(recipe, Group(alone=True))
    assert isinstance(family, PixelCNN)
    found: dict[str, float] = {}
    for batch in config.batches:
        found |= sampling(family, batch, config.passes)
    return found | training(family, config.rounds)


@torch.no_grad()
def sampling(family: PixelCNN, batch: int, passes: int) -> dict[str, float]:
    """Both samplers at one batch size."""
    model = family.averaged.model
    uniform = pixelcnn.uniforms(model, batch, seeded("bench"))
    began = time.perf_counter()
    x = pixelcnn.sample(model, uniform)
    cached = time.perf_counter() - began
    model(x)
    times = []
    for _ in range(passes):
        began = time.perf_counter()
        model(x)
        times.append(time.perf_counter() - began)
    naive = statistics.median(times) * model.size[0] * model.size[1] * (model.channels if model.head.ordered else 1)
    print(f"batch {batch}: cached {cached:.2f} s, whole passes {naive:.1f} s", flush=True)
    return {f"speedup_{batch}": naive / cached, f"cached_seconds_{batch}": cached}


def training(family: PixelCNN, rounds: int) -> dict[str, float]:
    """`update` and the bare forward and backward in turns."""
    r = family.recipe
    grey = torch.randint(0, 256, (r.batch, r.channels, *r.frame), generator=seeded("pictures"))
    batch: Batch = {"target": grey / 127.5 - 1, "index": torch.arange(r.batch)}
    family.enter("main")
    levels = family.levels(batch)

    def bare() -> None:
        family.net(levels, None).sum().backward()
        family.net.zero_grad()

    seconds = turns({"bare": bare, "update": lambda: family.update(lambda _: batch, 0)}, rounds)
    for number, one in enumerate(seconds):
        print(f"round {number}: bare {one['bare']:.3f} s, update {one['update']:.3f} s", flush=True)
    return {
        "update_ratio": statistics.median(one["update"] / one["bare"] for one in seconds),
        "update_seconds": statistics.median(one["update"] for one in seconds),
    }
