"""The bench of steps: what it counts as a step's passes is what `update` makes, and the plain pix2pix is pix2pix."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import models
from jobs.bench import train
from jobs.bench.updates import measure, plain
from jobs.bench.updates.passes import PASSES, bare, record
from models.common.layers import Live
from models.common.seeds import seeded
from models.family import Batch, Family
from models.group import Group
from models.pix2pix import Pix2Pix


def made(name: str) -> tuple[Family, dict[str, Batch]]:
    recipe: Any = models.load(name).PRESETS["tiny"]
    if name == "pix2pixhd":
        recipe = replace(recipe, features=0)  # the paper's preset has none
    family = measure._built(name, recipe)
    return family, {s: measure._batch(name, family, s) for s in family.streams(family.stages[0].name)}


@pytest.mark.parametrize("name", PASSES)
def test_the_bare_sum_makes_the_passes_of_a_step(name: str) -> None:
    """Every weight that the step trains gets a gradient, D's inputs too where G learns from them; nothing moves."""
    family, batches = made(name)
    calls = record(family, name, batches.__getitem__)
    assert [call.backward for call in calls] == [backward for _, backward in PASSES[name]]
    before = {key: value.clone() for key, value in family.state_dict().items() if "running" not in key}
    got: set[int] = set()
    for optimiser in family.optimisers.values():
        params = [p for settings in optimiser.param_groups for p in settings["params"]]

        def look(*_: Any, params: list[torch.nn.Parameter] = params) -> None:
            got.update(id(p) for p in params if p.grad is not None)

        optimiser.register_step_pre_hook(look)
    bare(family, calls)()
    assert got == {id(p) for o in family.optimisers.values() for s in o.param_groups for p in s["params"]}
    after = family.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items() if "num_batches" not in key)


def test_a_pass_too_many_is_seen() -> None:
    family, batches = made("pix2pix")
    assert isinstance(family, Pix2Pix)
    step = family.step

    def twice(draw: Any, images: int) -> Any:
        with torch.no_grad():
            family.generator(batches["pairs"]["input"])
        return step(draw, images)

    family.step = twice  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="pix2pix's step passes through"):
        record(family, "pix2pix", batches.__getitem__)


def test_the_plain_one_has_the_papers_weights() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in plain.Generator().parameters()) == 54_413_955
        assert sum(p.numel() for p in plain.discriminator().parameters()) == 2_768_705


def test_the_plain_one_draws_the_familys_picture() -> None:
    """The same weights, dropout off, batch statistics: the same U-Net and the same logits."""
    family = models.load("pix2pix").build(replace(models.load("pix2pix").PRESETS["paper"], dropped=()), Group())
    net, critic = plain.Generator(), plain.discriminator()
    for own, theirs in ((net, family.generator), (critic, family.discriminator)):
        mine = [m for m in own.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
        there = [m for m in theirs.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
        for a, b in zip(mine, there, strict=True):
            a.load_state_dict(b.state_dict())
        norms = [m for m in own.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for norm, other in zip(
            norms, [m for m in theirs.modules() if isinstance(m, torch.nn.BatchNorm2d)], strict=True
        ):
            norm.load_state_dict(other.state_dict())
    for dropout in net.modules():
        if isinstance(dropout, torch.nn.Dropout):
            dropout.p = 0.0
    x = torch.rand(1, 3, 256, 256, generator=seeded(0)) * 2 - 1
    live = Live(seeded(0), family.group)
    with torch.no_grad():
        torch.testing.assert_close(net(x), family.generator(x, live=live), rtol=1e-3, atol=1e-4)
        both = torch.cat([x, x.flip(3)], 1)
        torch.testing.assert_close(critic(both), family.discriminator(both, live)[-1], rtol=1e-3, atol=1e-4)


def test_it_runs() -> None:
    found = train.run(train.Config(family="bicyclegan", preset="tiny", batch=(2, 4), rounds=1))
    assert found["threads"] == 1 and found["batch_4"]["forwards"]["generator"] == 1
    assert found["batch_2"]["update_ratio_bicyclegan"] > 0 and found["batch_2"]["images_per_second"] > 0
    with pytest.raises(ValueError, match="--family nosuch: choose one of flow, pix2pix"):
        train.run(train.Config(family="nosuch"))
