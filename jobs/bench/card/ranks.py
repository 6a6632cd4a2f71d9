"""Two ranks on one device against one: the same step, to rounding."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

import models.step
from models.common.seeds import seeded
from models.common.vgg import VGG
from models.family import Batch
from models.group import Group

BATCH, SIDE = 4, 32


def measured(device: torch.device) -> dict[str, float]:
    """Largest difference of the weights after one step of StEP's generator stage, relative to how far the largest of
    them moved. Its discriminator takes a statistic over the whole batch."""
    with tempfile.TemporaryDirectory() as folder:
        before, alone = _weights(device, Group(alone=True))
        mp.start_processes(_rank, (folder, str(device)), nprocs=2, start_method="spawn")  # type: ignore[attr-defined,no-untyped-call]
        both = torch.load(Path(folder) / "0.pt", weights_only=True)
    return {"two_ranks_off": float((both - alone).abs().max() / (alone - before).abs().max())}


def _rank(rank: int, folder: str, device: str) -> None:
    torch.set_num_threads(1)
    # Not NCCL: it refuses two ranks on one GPU.
    dist.init_process_group("gloo", init_method=f"file://{folder}/ranks", rank=rank, world_size=2)
    torch.save(_weights(torch.device(device), Group())[1], Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def _weights(device: torch.device, group: Group) -> tuple[Tensor, Tensor]:
    """Before and after the step, on the CPU."""
    recipe = replace(models.step.PRESETS["tiny"], size=SIDE, batch=BATCH)
    vgg = VGG(recipe.perceptual_net, recipe.perceptual_layers).random(0)
    family = models.step.build(recipe, group, vgg).to(device).double()
    family.enter("generator")
    drawn = count()

    def draw(_: str) -> Batch:
        number, shape = next(drawn), (BATCH, 3, SIDE, SIDE)
        named = ((name, seeded("ranks", name, number)) for name in ("input", "target"))
        whole = {n: torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1 for n, generator in named}
        return {n: x.chunk(group.world)[group.rank].to(device) for n, x in whole.items()}

    def flat() -> Tensor:
        return torch.cat([p.detach().flatten().cpu() for p in family.parameters()])

    before = flat()
    family.update(draw, 0)
    return before, flat()
