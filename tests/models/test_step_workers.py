"""Two workers with half the batch each take the step of one worker with all of it, in every stage."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models import step
from models.common.seeds import seeded
from models.common.vgg import VGG
from models.family import Batch
from models.group import Group
from tests.ranks import on_two_ranks

STEPS, BATCH, ROWS = 5, 4, 16
# Four channels are too few here: PixelNorm divides by the size of a pixel's features, and where the few are nearly zero
# it magnifies rounding ten thousandfold in each layer.
RECIPE = dataclasses.replace(step.PRESETS["tiny"], discriminator_scales=2, size=32, generator_width=16)


class LocalStatistics(Group):
    """The wrong version: statistics over this rank's share alone."""

    def gather(self, x: Tensor) -> Tensor:
        return x


class Share:
    """This rank's rows of each global batch, in float64."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world, self.count = rank, world, 0

    def __call__(self, stream: str) -> Batch:
        self.count += 1
        generator = seeded(stream, self.count)
        if stream == "codes":
            index = torch.randint(0, ROWS, (BATCH,), generator=generator)
            whole = {"code": codes()[index], "row": index}
        else:
            names = ("anchor", "positive", "negative") if stream == "triplets" else ("input", "target")
            whole = {
                name: torch.rand(BATCH, 3, 32, 32, generator=generator, dtype=torch.float64) * 2 - 1 for name in names
            }
        return {name: value.chunk(self.world)[self.rank] for name, value in whole.items()}


def codes() -> Tensor:
    return torch.randn(ROWS, 8, generator=seeded("codes"), dtype=torch.float64)


def nearest(queries: Tensor, pool: Tensor) -> Tensor:
    return torch.cdist(queries.double(), pool.double()).argmin(1)


def train(group: Group) -> dict[str, Any]:
    """Five steps of each stage; stage -> losses and each step's gradients by network."""
    found: dict[str, Any] = {}
    for stage in ("encoder", "generator", "finetune", "mapper"):
        vgg = VGG("vgg19", RECIPE.perceptual_layers).random(0)
        family = step.build(RECIPE, group, vgg).double()
        family.adopt("finetune", {"code": codes()})
        draw = Share(group.rank, group.world)
        family.enter(stage)
        if stage == "mapper":
            family.refresh(draw, {"finetune": {"code": codes()}}, nearest, 0)
        losses, gradients = [], []
        for name, optimiser in family.optimisers.items():

            def keep(optimiser: Any, *_: Any, name: str = name) -> None:
                grads = [p.grad for settings in optimiser.param_groups for p in settings["params"]]
                gradients.append((name, torch.cat([g.reshape(-1).clone() for g in grads])))  # noqa: B023

            optimiser.register_step_pre_hook(keep)
        for i in range(STEPS):
            losses.append(group.mean(family.update(draw, i * BATCH))["loss"])
        found[stage] = {"losses": losses, "gradients": gradients}
    return found


def worker(_: int, right: bool) -> dict[str, Any]:
    return train(Group() if right else LocalStatistics())


def two_workers(folder: Path, right: bool) -> dict[str, Any]:
    found: dict[str, Any] = on_two_ranks(folder, worker, right)[0]
    return found


def largest_error(one: dict[str, Any], two: dict[str, Any], stage: str) -> float:
    """Over losses and gradients, relative to the network's largest."""
    errors = [abs(a - b) / abs(a) for a, b in zip(one[stage]["losses"], two[stage]["losses"], strict=True)]
    for (name, a), (other, b) in zip(one[stage]["gradients"], two[stage]["gradients"], strict=True):
        assert name == other and len(a) == len(b)
        errors.append(float((a - b).abs().max() / a.abs().max()))
    assert len(errors) >= 2 * STEPS
    return max(errors)


@pytest.fixture(scope="module")
def one() -> dict[str, Any]:
    return train(Group())


def test_two_workers_equal_one(one: dict[str, Any], tmp_path: Path) -> None:
    two = two_workers(tmp_path, right=True)
    errors = {stage: largest_error(one, two, stage) for stage in one}
    assert max(errors.values()) < 1e-9, errors


def test_the_comparison_sees_rank_local_statistics(one: dict[str, Any], tmp_path: Path) -> None:
    two = two_workers(tmp_path, right=False)
    errors = {stage: largest_error(one, two, stage) for stage in one}
    assert errors["generator"] > 1e-4 and errors["finetune"] > 1e-4, errors
    assert errors["encoder"] < 1e-9  # no statistics over the batch there
