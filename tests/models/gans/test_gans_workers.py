"""Two workers with half the batch each take the step of one with all of it, for every objective."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models import gans
from models.common.seeds import seeded
from models.family import Batch, Facts
from models.group import Group
from tests.ranks import on_two_ranks

STEPS, BATCH = 3, 8
TINY = dataclasses.replace(
    gans.PRESETS["tiny"], size=8, channels=1, width=4, batch=BATCH, generator_batch=BATCH, labelled_batch=4, codes=1
)
POINTS = dataclasses.replace(TINY, form="points", network="perceptron", generator_widths=(8,), critic_widths=(8, 8))
GAMES = {
    # Batch norm in both networks, and each batch-coupled term.
    "nonsaturating": TINY,
    "infogan": dataclasses.replace(TINY, objective="infogan"),
    "acgan": dataclasses.replace(TINY, objective="acgan", dropout=0.5),
    "catgan": dataclasses.replace(POINTS, objective="catgan", input_noise=0.3, hidden_noise=0.5),
    "salimans": dataclasses.replace(POINTS, objective="salimans", input_noise=0.3, hidden_noise=0.5),
    "ebgan-pt": dataclasses.replace(POINTS, objective="ebgan-pt", critic_activation="relu"),
    "began": dataclasses.replace(POINTS, objective="began", k_rate=0.1),
    "dragan": dataclasses.replace(POINTS, objective="dragan"),
    "wgan-gp": dataclasses.replace(POINTS, objective="wgan-gp", critic_steps=2),
    "fgan-jensen-shannon": dataclasses.replace(POINTS, objective="fgan-jensen-shannon"),
}


class LocalStatistics(Group):
    """The wrong version: statistics over this rank's share alone."""

    def gather(self, x: Tensor) -> Tensor:
        return x


class Share:
    """This rank's rows of each global batch, in float64."""

    def __init__(self, recipe: gans.Config, group: Group) -> None:
        self.recipe, self.group, self.count = recipe, group, 0

    def __call__(self, stream: str) -> Batch:
        self.count += 1
        r, drawn = self.recipe, seeded(stream, self.count)
        rows = r.labelled_batch if stream == "labelled" else r.batch
        shape = (2,) if r.form == "points" else (r.channels, r.size, r.size)
        whole = {
            r.field: torch.rand(rows, *shape, generator=drawn, dtype=torch.float64) * 2 - 1,
            "class": torch.randint(r.classes, (rows,), generator=drawn),
        }
        return {name: value.chunk(self.group.world)[self.group.rank] for name, value in whole.items()}


def train(group: Group) -> dict[str, Any]:
    """Game -> the losses and every gradient of some steps, and BEGAN's k."""
    found: dict[str, Any] = {}
    for name, recipe in GAMES.items():
        family = gans.build(recipe, group, None, Facts()).double()
        family.enter("game")
        draw, gradients, losses = Share(recipe, group), list[Tensor](), list[float]()
        for optimiser in family.optimisers.values():

            def keep(optimiser: Any, *_: Any) -> None:
                grads = [p.grad.reshape(-1) for settings in optimiser.param_groups for p in settings["params"]]
                gradients.append(torch.cat(grads).clone())  # noqa: B023

            optimiser.register_step_pre_hook(keep)
        for i in range(STEPS):
            values = family.update(draw, i * BATCH)
            losses += [float(values["critic/loss"]), float(values["generator/loss"])]
        buffers = [b.double().reshape(-1) for n, b in family.named_buffers() if not n.endswith("count")]
        found[name] = {"losses": losses, "gradients": gradients, "buffers": torch.cat(buffers)}
    return found


def worker(_: int, right: bool) -> dict[str, Any]:
    return train(Group() if right else LocalStatistics())


def two_workers(folder: Path, right: bool) -> dict[str, Any]:
    found: dict[str, Any] = on_two_ranks(folder, worker, right)[0]
    return found


def errors(one: dict[str, Any], two: dict[str, Any]) -> dict[str, float]:
    """Game -> the largest difference of losses, gradients and buffers, relative to the network's largest."""
    found = {}
    for name, mine in one.items():
        apart = [abs(a - b) / max(abs(a), 1e-3) for a, b in zip(mine["losses"], two[name]["losses"], strict=True)]
        for a, b in zip(mine["gradients"], two[name]["gradients"], strict=True):
            apart.append(float((a - b).abs().max() / a.abs().max()))
        apart.append(float((mine["buffers"] - two[name]["buffers"]).abs().max()))
        found[name] = max(apart)
    return found


@pytest.fixture(scope="module")
def one() -> dict[str, Any]:
    return train(Group())


def test_two_workers_equal_one(one: dict[str, Any], tmp_path: Path) -> None:
    found = errors(one, two_workers(tmp_path, right=True))
    assert max(found.values()) < 1e-9, found


def test_the_comparison_sees_rank_local_statistics(one: dict[str, Any], tmp_path: Path) -> None:
    found = errors(one, two_workers(tmp_path, right=False))
    coupled = {"nonsaturating", "infogan", "acgan", "catgan", "salimans", "ebgan-pt", "dragan"}
    assert all(found[name] > 1e-4 for name in coupled), found
