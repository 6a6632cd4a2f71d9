"""Flow matching as a family: its loss, its average, that it learns a conditional distribution."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from models import flow
from models.common.seeds import seeded
from models.flow import Flow
from models.flow.networks import VelocityNet
from models.flow.paths import euler, heun
from models.group import Group
from tests.models.translation import Data

TINY = flow.PRESETS["tiny"]


def family(**change: Any) -> Flow:
    own = flow.build(dataclasses.replace(TINY, **change), Group())
    own.enter("train")
    return own


def test_at_first_the_skip_is_as_loud_as_the_deep_path() -> None:
    """With He's 2 / fan in the deep path is many times louder, and the noise at full size is never removed."""
    widths = (16, 32, 64, 96)
    net = VelocityNet(3, 3, widths)
    net.draw(seeded(0, "generator"))
    seen: list[torch.Tensor] = []
    net.ups[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    generator = seeded(0, "inputs")
    x, given = torch.randn(2, 2, 3, 64, 64, generator=generator)
    net(x, torch.rand(2, generator=generator), given)
    deep, skip = seen[0].split([seen[0].shape[1] - widths[0], widths[0]], 1)
    assert 0.4 < float(deep.detach().std() / skip.detach().std()) < 2.5


def test_loss_by_hand() -> None:
    own = family()
    batch = Data(own, "train")("pairs")
    generator = seeded(0, "noise", 12)
    noise = torch.randn(4, 3, 16, 16, generator=generator)
    t = torch.sigmoid(-0.8 - 0.8 * torch.randn(4, generator=generator))
    x = torch.stack([(1 - t[i]) * noise[i] + t[i] * batch["target"][i] for i in range(4)])
    wanted = (own.generator(x, t, batch["input"]) - (batch["target"] - noise)).square().mean()
    before = own.average.net.first.weight.clone()
    found = own.update(lambda _: batch, 12)
    assert float(found["loss"]) == pytest.approx(float(wanted.detach()), rel=1e-6)
    # The average warms up: at its first update 0.1 of the old weights are kept.
    raw = own.generator.first.weight.detach()
    torch.testing.assert_close(own.average.net.first.weight, 0.1 * before + 0.9 * raw)


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_a_time_near_1_does_not_throw_the_weights_away(clip: float) -> None:
    """There the loss is divided by (1 - t)^2. One such step may not undo many."""
    own = family(clip=clip)
    data = Data(own, "train")
    moved = []
    for step in range(40):
        if step == 39:
            object.__setattr__(own.recipe, "times", (-3.0, 0.0))  # t = 0.953
        before = [p.detach().clone() for p in own.generator.parameters()]
        own.update(data, step * 4)
        apart = [(p.detach() - b).norm() for p, b in zip(own.generator.parameters(), before, strict=True)]
        moved.append(float(torch.stack(apart).norm()))
    usual = sorted(moved[20:39])[10]
    assert moved[39] < 1.4 * usual if clip else moved[39] > 1.5 * usual


def test_clipping_is_of_the_whole_batch() -> None:
    found = []
    for accumulate in (1, 2):
        own = flow.build(dataclasses.replace(TINY, clip=0.05), Group(alone=True, accumulate=accumulate)).double()
        own.enter("train")
        data = Data(own, "train")
        for step in range(3):
            batch = {k: v.double() if v.is_floating_point() else v for k, v in data("pairs").items()}
            own.update(lambda _, batch=batch: batch, step * 4)  # type: ignore[misc]
        found.append(torch.cat([p.detach().flatten() for p in own.generator.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-7)


def test_samplers_and_their_steps() -> None:
    own = family()
    own.update(Data(own, "train"), 0)
    x = {"input": torch.zeros(2, 3, 16, 16)}
    noise = torch.randn(2, 1, 3, 16, 16, generator=seeded(3))[:, 0]

    def velocity(state: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            out: torch.Tensor = own.average.net(state, t, x["input"])
        return out

    for sampler, wanted in [
        ("", heun(velocity, noise, 4)),
        ("heun", heun(velocity, noise, 4)),
        ("euler:7", euler(velocity, noise, 7)),
    ]:
        torch.testing.assert_close(own.sample(x, 1, seeded(3), sampler)[:, 0], wanted.clamp(-1, 1))
    for wrong in ("rk4", "euler:0", "euler:two"):
        with pytest.raises(ValueError, match=f"--sampler {wrong}: choose one of heun, euler"):
            own.sample(x, 1, seeded(3), wrong)


def test_learns_both_answers() -> None:
    """One input with a dark and a bright target: the samples are either, not the grey mean of an L1 or L2 loss."""
    own = family(rate=3e-3, average_decay=0.95, images=800, size=8, widths=(8, 16))
    x = torch.zeros(4, 3, 8, 8)
    y = torch.tensor([-0.8, -0.8, 0.8, 0.8]).view(4, 1, 1, 1).expand(4, 3, 8, 8)
    batch = {"input": x, "target": y}
    for i in range(200):
        own.update(lambda _: batch, 4 * i)
    drawn = own.sample({"input": x[:1]}, 32, seeded(0), "heun:8")[0].mean((1, 2, 3))
    assert float((drawn.abs() > 0.4).double().mean()) > 0.8
    assert 0.15 < float((drawn > 0).double().mean()) < 0.85


def test_refusals() -> None:
    with pytest.raises(ValueError, match="--size 15: must be a multiple of 2"):
        family(size=15)
    with pytest.raises(ValueError, match="--size 18: must be a multiple of 4"):
        family(size=18, patch=2)
    for option in ("steps", "patch"):
        with pytest.raises(ValueError, match=f"--{option} 0: give at least 1"):
            family(**{option: 0})


def test_it_is_short() -> None:
    """A yardstick that every reader can read: at most 350 lines in all."""
    lines = [len(path.read_text().splitlines()) for path in Path(flow.__file__).parent.glob("*.py")]
    assert len(lines) == 5 and sum(lines) <= 350
