"""pix2pix: the order of a step and its picture, against a plain implementation; what it refuses."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from models import pix2pix
from models.common import colour
from models.common.layers import Live
from models.common.seeds import seeded
from models.group import Group
from models.pix2pix import Pix2Pix
from models.pix2pix.training import discriminator, generator
from tests.models.translation import Data

TINY = pix2pix.PRESETS["tiny"]


def family(**change: Any) -> Pix2Pix:
    own = pix2pix.build(dataclasses.replace(TINY, **change), Group())
    own.enter("train")
    return own


def weights(net: torch.nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


def reference_step(own: Pix2Pix, batch: dict[str, Tensor], old_d: bool = False, new_fake: bool = False) -> None:
    """Written out after the papers: D on the fake, then G through the moved D on the same fake. The flags are wrong."""
    g, d, r = own.generator, own.discriminator, own.recipe
    opt_g = torch.optim.Adam(g.parameters(), r.rate, (0.5, 0.999))
    opt_d = torch.optim.Adam(d.parameters(), r.rate, (0.5, 0.999))
    live = Live(seeded(r.seed, "noise", 0), Group())
    x, y = batch["input"], batch["target"]
    bce = torch.nn.BCEWithLogitsLoss()
    fake = g(x, live=live)

    def step_d() -> None:
        real, made = d(torch.cat([x, y], 1), live)[-1], d(torch.cat([x, fake.detach()], 1), live)[-1]
        opt_d.zero_grad()
        (0.5 * (bce(real, torch.ones_like(real)) + bce(made, torch.zeros_like(made)))).backward()
        opt_d.step()

    def step_g() -> None:
        picture = g(x, live=live) if new_fake else fake
        seen = d(torch.cat([x, picture], 1), live)[-1]
        opt_g.zero_grad()
        (bce(seen, torch.ones_like(seen)) + 100 * (picture - y).abs().mean()).backward()
        opt_g.step()

    for step in (step_g, step_d) if old_d else (step_d, step_g):
        step()


@pytest.mark.parametrize(("flags", "right"), [({}, True), ({"old_d": True}, False), ({"new_fake": True}, False)])
def test_step_is_d_then_g_on_the_same_picture(flags: dict[str, bool], right: bool) -> None:
    own, twin = family().double(), family().double()
    own.enter("train")
    batch = Data(own, "train", dtype=torch.float64)("pairs")
    own.update(lambda _: batch, 0)
    reference_step(twin, batch, **flags)
    first = float((weights(own.generator) - weights(twin.generator)).abs().max())
    # Halving D's loss, as the reference does, changes nothing under Adam.
    assert float((weights(own.discriminator) - weights(twin.discriminator)).abs().max()) < 1e-7 or flags
    assert (first < 1e-7) == right, first


def test_one_forward_of_g_and_three_of_d_a_step() -> None:
    own, calls = family(), {"g": 0, "d": 0}
    own.generator.register_forward_hook(lambda *_: calls.update(g=calls["g"] + 1))
    own.discriminator.register_forward_hook(lambda *_: calls.update(d=calls["d"] + 1))
    own.update(Data(own, "train"), 0)
    assert calls == {"g": 1, "d": 3}


def test_halving_the_discriminators_loss_does_nothing_under_adam() -> None:
    """Fifty steps: the difference is rounding beside the way."""
    start = torch.linspace(-1, 1, 100)
    ends = []
    for factor in (1.0, 0.5):
        p = torch.nn.Parameter(start.clone())
        optimiser = torch.optim.Adam([p], 2e-3, (0.5, 0.999))
        for i in range(50):
            optimiser.zero_grad()
            (factor * ((p - torch.sin(p * 3 + i)) ** 2).mean()).backward()
            optimiser.step()
        ends.append(p.detach())
    assert float((ends[0] - ends[1]).abs().max()) < 1e-3 * float((ends[0] - start).abs().max())


def test_learning_rates() -> None:
    own = family(epoch=10, constant_epochs=100, decay_epochs=100)
    data = Data(own, "train")
    for images, factor in [(0, 1), (999, 1), (1000, 100 / 101), (1500, 50 / 101), (1999, 1 / 101)]:
        assert float(own.update(data, images)["rate"]) == pytest.approx(2e-4 * factor, rel=1e-9), images
        assert all(o.param_groups[0]["lr"] == pytest.approx(2e-4 * factor) for o in own.optimisers.values())
    assert own.stages[0].images == 2000


def test_first_weights() -> None:
    own = pix2pix.build(dataclasses.replace(TINY, width=16, generator="resnet"), Group())
    drawn = torch.cat([m.weight.detach().reshape(-1) for m in own.modules() if isinstance(m, torch.nn.Conv2d)])
    assert float(drawn.std()) == pytest.approx(0.02, rel=0.02)
    biases = [m.bias for m in own.modules() if isinstance(m, torch.nn.Conv2d) and m.bias is not None]
    assert biases and not any(bool(b.any()) for b in biases)


def test_sizes_of_the_papers_networks() -> None:
    with torch.device("meta"):
        sizes = {
            name: [
                sum(p.numel() for p in make(pix2pix.PRESETS[name]).parameters()) for make in (generator, discriminator)
            ]
            for name in ("paper", "resnet", "edges", "colour")
        }
    assert sizes["paper"] == [54_413_955, 2_768_705] and sizes["resnet"][0] == 11_383_427
    assert sizes["edges"][0] == 54_411_907
    assert sizes["colour"] == [54_409_858, 2_768_705 - 3 * 64 * 16]  # L in, a and b out


def test_dropout_stays_on_and_a_picture_does_not_depend_on_its_batch() -> None:
    own = family()
    data = Data(own, "train")
    for i in range(3):
        own.update(data, 4 * i)
    x = data.batch(("input",), 3)
    drawn = own.sample(x, 2, seeded(0))
    assert not torch.allclose(drawn[:, 0], drawn[:, 1], atol=1e-4)
    plain = pix2pix.build(dataclasses.replace(TINY, dropped=()), Group())
    plain.load_state_dict(own.state_dict())
    one, three = (plain.sample({"input": x["input"][:rows]}, 1, seeded(0)) for rows in (1, 3))
    torch.testing.assert_close(one[0], three[0])
    still = pix2pix.build(dataclasses.replace(TINY, eval_mode=True), Group())
    still.load_state_dict(own.state_dict())
    same = still.sample(x, 2, seeded(0))
    assert torch.equal(same[:, 0], same[:, 1]) and not torch.allclose(same, drawn, atol=1e-4)
    assert bool(own.generator.up_norms[0].running_mean.any())  # type: ignore[union-attr]


def test_colourisation_keeps_the_lightness() -> None:
    own = family(condition="lightness")
    assert own.reads == ("target",) and pix2pix.fields(own.recipe).keys() == {"target"}
    grey = torch.rand(2, 1, 16, 16, generator=seeded(0)).expand(2, 3, 16, 16) - 0.5
    drawn = own.sample({"target": grey}, 1, seeded(0))[:, 0]
    # A new G makes colours near grey, which sRGB can show: the lightness is that of the input.
    torch.testing.assert_close(colour.split(drawn)[0], colour.split(grey)[0], atol=2e-2, rtol=0)
    assert own.generator(torch.zeros(1, 1, 16, 16), live=Live(seeded(0), None)).shape[1] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 24}, "--size 24: must be a multiple of 16, G halves it 4 times"),
        ({"condition": "labels"}, "--labels 0: the number of classes"),
        ({"labels": 3}, "--labels 3: the number of classes"),
        ({"code": 4, "generator": "resnet"}, "--code 4: the residual generator takes no noise vector"),
        ({"code": 4, "eval_mode": True}, "--code 4 --eval-mode"),
        ({"discriminator_layers": 4}, "--size 16: too small for --discriminator-layers 4"),
        ({"batch": 1, "size": 8, "levels": 3, "discriminator_layers": 2}, "too small|1 x 1"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        family(**change)


def test_bad_batches_are_named() -> None:
    own = family(condition="labels", labels=3)
    data = Data(own, "train")
    batch = data.batch(("input", "target"), 4)
    batch["input"][0, 0, 0] = 7
    with pytest.raises(ValueError, match="class id 7 in a label map, but --labels 3"):
        own.update(lambda _: batch, 0)
    one_class = {**batch, "input": torch.ones_like(batch["input"])}
    assert float(own.update(lambda _: one_class, 0)["loss"]) > 0  # pictures of a single class train


def test_memorises_a_pair() -> None:
    """What the losses are for: with one pair the picture comes near the target."""
    own = family(rate=2e-3, dropped=(), batch=1, width=16)
    batch = Data(own, "train").batch(("input", "target"), 1)
    flat = {**batch, "target": torch.nn.functional.interpolate(batch["target"][:, :, ::8, ::8], scale_factor=8)}
    first = own.evaluate(flat)["l1"]
    for i in range(150):
        own.update(lambda _: flat, i)
    assert own.evaluate(flat)["l1"] < 0.3 * first
