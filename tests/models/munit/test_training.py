"""MUNIT's step against the released code's order written out; its streams; what it refuses."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from models import munit
from models.common.layers import Live
from models.common.seeds import seeded
from models.common.vgg import VGG
from models.family import Facts
from models.group import Group
from models.munit import MUNIT
from models.munit.training import discriminator, generator
from tests.models.translation import Data

TINY = munit.PRESETS["tiny"]


def family(**change: Any) -> MUNIT:
    own = munit.build(dataclasses.replace(TINY, **change), Group())
    own.enter("train")
    return own


def reference_step(own: MUNIT, a: Tensor, b: Tensor, wrong: str = "") -> None:
    """D first, with its own styles and its own pass; then G with new styles. Adam's own weight decay."""
    r = own.recipe
    g_a, g_b, d_a, d_b = own.generator_a, own.generator_b, own.discriminator_a, own.discriminator_b
    decay = 0.0 if wrong == "no decay" else 1e-4

    def adam(*nets: torch.nn.Module) -> torch.optim.Adam:
        return torch.optim.Adam([p for n in nets for p in n.parameters()], 1e-4, (0.5, 0.999), weight_decay=decay)

    opt_d, opt_g = adam(d_a, d_b), adam(g_a, g_b)
    live = Live(seeded(r.seed, "noise", 0), Group())
    styles = [live.rows((len(a), r.code)).double() for _ in range(4)]
    if wrong == "same styles":
        styles[2:] = styles[:2]

    def d_loss(net: torch.nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        both = zip(net(fake), net(real), strict=True)
        return torch.stack([f[-1].square().mean() + (t[-1] - 1).square().mean() for f, t in both]).sum()

    def step_d() -> None:
        fake_a = g_a.decoder(g_b.content(b), styles[0])
        fake_b = g_b.decoder(g_a.content(a), styles[1])
        opt_d.zero_grad()
        (d_loss(d_a, fake_a.detach(), a) + d_loss(d_b, fake_b.detach(), b)).backward()
        opt_d.step()

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return torch.nn.functional.l1_loss(x, y)

    def step_g() -> None:
        c_a, s_a, c_b, s_b = g_a.content(a), g_a.style(a), g_b.content(b), g_b.style(b)
        x_ba, x_ab = g_a.decoder(c_b, styles[2]), g_b.decoder(c_a, styles[3])
        c_b2, s_a2, c_a2, s_b2 = g_a.content(x_ba), g_a.style(x_ba), g_b.content(x_ab), g_b.style(x_ab)
        if wrong == "content fixed":
            c_a, c_b = c_a.detach(), c_b.detach()
        loss = 10 * (distance(g_a.decoder(c_a, s_a), a) + distance(g_b.decoder(c_b, s_b), b))
        loss = loss + distance(s_a2, styles[2]) + distance(s_b2, styles[3]) + distance(c_a2, c_a) + distance(c_b2, c_b)
        for net, fake in ((d_a, x_ba), (d_b, x_ab)):
            loss = loss + torch.stack([f[-1].sub(1).square().mean() for f in net(fake)]).sum()
        if r.cycle_weight:
            back = distance(g_a.decoder(c_a2, s_a), a) + distance(g_b.decoder(c_b2, s_b), b)
            loss = loss + r.cycle_weight * back
        if r.pair_weight and wrong != "no pairs":
            style = styles[3] if wrong == "random style" else s_b
            loss = loss + r.pair_weight * distance(g_b.decoder(c_a, style), b)
        opt_g.zero_grad()
        loss.backward()
        opt_g.step()

    for step in (step_g, step_d) if wrong == "G first" else (step_d, step_g):
        step()


@pytest.mark.parametrize("cycle", [0.0, 10.0])
@pytest.mark.parametrize("wrong", ["", "G first", "same styles", "content fixed", "no decay"])
def test_step_is_the_released_codes(wrong: str, cycle: float) -> None:
    own, twin = family(cycle_weight=cycle).double(), family(cycle_weight=cycle).double()
    own.enter("train")
    data = Data(own, "train", dtype=torch.float64)
    a, b = data("a"), data("b")
    own.update(lambda name: {"a": a, "b": b}[name], 0)
    reference_step(twin, a["input"], b["target"], wrong)
    pairs = zip(own.parameters(), twin.parameters(), strict=True)
    apart = max(float((p.detach() - q.detach()).abs().max()) for p, q in pairs)
    assert (apart < 1e-9) == (not wrong), apart


@pytest.mark.parametrize("wrong", ["", "no pairs", "random style"])
def test_pairs_have_a_term_of_their_own(wrong: str) -> None:
    """L1 of the input in its target's style and the target."""
    own, twin = (family(pairing="paired", pair_weight=10.0).double() for _ in range(2))
    own.enter("train")
    batch = Data(own, "train", dtype=torch.float64)("pairs")
    own.update(lambda name: batch, 0)
    reference_step(twin, batch["input"], batch["target"], wrong)
    pairs = zip(own.parameters(), twin.parameters(), strict=True)
    apart = max(float((p.detach() - q.detach()).abs().max()) for p, q in pairs)
    assert (apart < 1e-9) == (not wrong), apart


def test_contents_are_encoded_once_for_both_steps() -> None:
    own, calls = family(), {"content": 0, "style": 0}
    for name in calls:
        part = getattr(own.generator_a, name)
        part.register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    own.update(Data(own, "train"), 0)
    assert calls == {"content": 2, "style": 2}  # of the picture, and of the translation into A


def test_sizes_of_the_papers_networks() -> None:
    with torch.device("meta"):
        r = munit.PRESETS["paper"]
        sizes = [sum(p.numel() for p in make(r).parameters()) for make in (generator, discriminator)]
    assert sizes == [15_026_187, 8_271_171] and [2 * n for n in sizes] == [30_052_374, 16_542_342]


def test_streams() -> None:
    unpaired = family().streams("train")
    assert {name: stream.fields for name, stream in unpaired.items()} == {"a": ("input",), "b": ("target",)}
    assert family(pairing="paired").streams("train")["pairs"].fields == ("input", "target")
    own = family(pairing="classes")
    streams = own.streams("train")
    assert own.reads == ("target",) and munit.fields(own.recipe)["class"].kind == "class"
    for name, wanted in (("a", 0), ("b", 1)):
        keep = streams[name].keep
        assert keep is not None and [keep({"class_value": value}) for value in (0, 1, -1)] == [
            wanted == 0,
            wanted == 1,
            False,
        ]


def test_learning_rate_is_halved_from_the_step_before() -> None:
    own = family(halve_steps=10)
    for step, factor in [(0, 1), (8, 1), (9, 0.5), (18, 0.5), (19, 0.25)]:
        assert float(own.update(Data(own, "train"), 4 * step)["rate"]) == pytest.approx(1e-4 * factor), step


def test_first_weights() -> None:
    own = munit.build(dataclasses.replace(TINY, discriminator_width=64), Group())
    drawn = own.discriminator_a.critics[0].convs[0].weight.detach()  # type: ignore[union-attr, index]
    assert float(drawn.std()) == pytest.approx(0.02, rel=0.05)
    assert not torch.equal(own.generator_a.content.convs[0].weight, own.generator_b.content.convs[0].weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"code": 0}, "--code 0"),
        ({"pair_weight": 10.0}, "--pair-weight 10: needs --pairing paired, this is unpaired"),
        ({"halve_steps": 0}, "--halve-steps 0"),
        ({"size": 18, "downs": 2}, "--size 18: must be a multiple of 4"),
        ({"style_downs": 5}, "--size 16: too small for --style-downs 5"),
        ({"discriminator_layers": 4}, "--size 16: too small for --discriminator-layers 4 at --discriminator-scales 2"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        family(**change)


def test_a_data_set_of_one_class_is_refused() -> None:
    recipe = dataclasses.replace(TINY, pairing="classes")
    with pytest.raises(ValueError, match="--pairing classes: the data set has 1 class; two domains are needed"):
        munit.build(recipe, Group(), facts=Facts(3, {"class": {"classes": 1}}))
    with pytest.raises(ValueError, match="a code of 2 entries"):
        family().generate({"input": torch.zeros(1, 3, 16, 16)}, torch.zeros(1, 2))


# The domain-invariant perceptual loss ---------------------------------------------------------------------------------


def with_vgg(**change: Any) -> MUNIT:
    recipe = dataclasses.replace(TINY, perceptual_layers=("relu2_2",), perceptual_pools=0, **change)
    vgg = VGG("vgg16", ("relu2_2",), "caffe", pools=0).random(0)
    own = munit.build(recipe, Group(), vgg)
    own.enter("train")
    return own


def naive_perceptual(net: VGG, x: Tensor, y: Tensor) -> float:
    """Released code: mean square of the difference of instance-normalised activations, BGR 0-255 less Caffe's means."""
    found = []
    for picture in (x, y):
        bgr = (picture[:, [2, 1, 0]] + 1) * 255 / 2 - torch.tensor([103.939, 116.779, 123.680]).view(1, 3, 1, 1)
        for module in net.features:
            bgr = module(bgr)
        flat = bgr.flatten(2)
        flat = (flat - flat.mean(2, keepdim=True)) / torch.sqrt(flat.var(2, correction=0, keepdim=True) + 1e-5)
        found.append(flat)
    return float((found[0] - found[1]).square().mean())


def test_perceptual_loss_compares_each_translation_with_its_source() -> None:
    own = with_vgg(perceptual_weight=2.0)
    net = own.perceptual.vgg
    assert isinstance(net, VGG)
    data = Data(own, "train")
    a, b = data("a")["input"], data("b")["target"]
    contents = own.generator_a.content(a), own.generator_b.content(b)
    styles = (torch.randn(4, 3, generator=seeded(1)), torch.randn(4, 3, generator=seeded(2)))
    with torch.no_grad():
        terms = own._terms((a, b), contents, styles)
        to_a, to_b = own.generator_a.decoder(contents[1], styles[0]), own.generator_b.decoder(contents[0], styles[1])
        wanted = 2.0 * (naive_perceptual(net, to_a, b) + naive_perceptual(net, to_b, a))
        swapped = 2.0 * (naive_perceptual(net, to_a, a) + naive_perceptual(net, to_b, b))
    assert float(terms["perceptual"]) == pytest.approx(wanted, rel=1e-4)
    assert abs(swapped / wanted - 1) > 0.01


def test_perceptual_loss_is_an_option() -> None:
    own = with_vgg()
    assert "perceptual" in own.update(Data(own, "train"), 0)
    assert not any("vgg" in key for key in own.state_dict())
    assert "perceptual" not in family().update(Data(family(), "train"), 0)
    paper = munit.PRESETS["512"]
    assert (paper.size, paper.perceptual_layers, paper.perceptual_pools) == (512, ("relu5_3",), 3)
    without = munit.build(own.recipe, Group(), None)  # as a trained one is loaded
    without.load_state_dict(own.state_dict())
    without.enter("train")
    with pytest.raises(ValueError, match="needs the VGG of the perceptual loss"):
        without.update(Data(without, "train"), 0)
    with pytest.raises(ValueError, match="--perceptual-layers relu2_2: not among the VGG's"):
        munit.build(own.recipe, Group(), VGG("vgg16", ("relu1_1",)))
