"""StEP's networks: published sizes, the code's five entrances, seeded starts."""

import dataclasses

import pytest
import torch
from torch import nn

from models import step
from models.common.seeds import seeded
from models.common.vgg import VGG
from models.group import Group
from models.step.networks import Generator, Mapper, StyleEncoder

TINY = step.PRESETS["tiny"]


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_published_sizes() -> None:
    family = step.build(step.PRESETS["paper"], Group())
    assert count(family.encoder) == 1_897_232
    assert count(family.generator.content) == 5_117_952 and count(family.generator.decoder) == 6_018_139
    assert count(family.generator) == 11_136_091
    assert count(family.discriminator) == 2_102_307
    assert count(family.mapper) == 35_208
    assert count(step.build(step.PRESETS["facades"], Group()).generator) == 2_872_475


def test_channels_stop_at_512() -> None:
    assert Generator(128, 1, 8, seeded(0)).content.downs[-1].weight.shape[:2] == (512, 512)


def test_codes_start_near_one() -> None:
    z = StyleEncoder(64, 8, seeded(0))(torch.rand(4, 3, 64, 64, generator=seeded(1)) * 2 - 1)
    assert z.shape == (4, 8) and float((z - 1).detach().abs().max()) < 0.5


def test_generator_shape_and_range() -> None:
    net = Generator(4, 1, 8, seeded(0))
    out = net(torch.rand(2, 3, 24, 16) * 2 - 1, torch.ones(2, 8))
    assert out.shape == (2, 3, 24, 16) and float(out.detach().abs().max()) <= 1


@pytest.mark.parametrize("place", ["rgb", "ups.0.first", "ups.1.first", "ups.2.first", "blocks.0.first"])
def test_code_enters_at_each_place(place: str) -> None:
    """Cut the code's channels everywhere but at one place (they come last): the picture must still depend on it."""
    net = Generator(4, 1, 8, seeded(0))
    for name in ("rgb", "ups.0.first", "ups.1.first", "ups.2.first"):
        if name != place:
            net.decoder.get_submodule(name).weight.data[:, -8:] = 0
    block = net.decoder.blocks[0]
    if place != "blocks.0.first":
        block.first.weight.data[:, -8:] = 0
    block.second.weight.data[-8:] = 0
    net.decoder.ups[0].first.weight.data[:, -16:-8] = 0  # the code's own channels carried through the residual sums
    x = torch.rand(1, 3, 16, 16, generator=seeded(1))
    difference = (net(x, torch.zeros(1, 8)) - net(x, torch.linspace(-2, 2, 8)[None])).abs().max()
    assert float(difference.detach()) > 1e-4


def test_skips_come_before_the_residual_blocks() -> None:
    net = Generator(4, 1, 8, seeded(0)).content
    features = net(torch.rand(1, 3, 16, 16))
    assert [tuple(f.shape[1:]) for f in features] == [(4, 16, 16), (8, 8, 8), (16, 4, 4), (32, 2, 2), (32, 2, 2)]
    torch.testing.assert_close(net.blocks(features[3]), features[4])
    assert not torch.equal(features[3], features[4])


def test_mapper_against_its_formula() -> None:
    net = Mapper(8, 128, seeded(0))
    e = torch.randn(3, 8, generator=seeded(1))
    y = e
    for i, layer in enumerate(net.layers):
        y = y @ layer.weight.T + layer.bias
        y = y.tanh() if i < 3 else y
    torch.testing.assert_close(net(e), y)


def test_start_follows_the_seed_alone() -> None:
    before = torch.get_rng_state()
    one, two = step.build(TINY, Group()), step.build(TINY, Group())
    assert torch.equal(before, torch.get_rng_state())
    other = step.build(dataclasses.replace(TINY, seed=1), Group())
    a, b, c = (family.state_dict() for family in (one, two, other))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["generator.content.first.weight"], c["generator.content.first.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 60}, "--size 60: must be a multiple of 8"),
        ({"size": 16, "discriminator_scales": 3}, "--size 16: at least 64"),
        ({"perceptual_value": -1.0}, "--perceptual-value -1.0"),
        ({"perceptual_value": 0.0}, "the paper's factors are for five layers"),
    ],
)
def test_sizes_that_do_not_fit(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        step.build(dataclasses.replace(TINY, **change), Group())


def test_paper_factors_are_for_caffes_weights() -> None:
    paper = step.PRESETS["paper"]
    with pytest.raises(ValueError, match="Caffe"):
        step.check(paper, VGG("vgg16", paper.perceptual_layers))
    step.check(paper, VGG("vgg16", paper.perceptual_layers, preprocessing="caffe"))
    with pytest.raises(ValueError, match="relu1_2: not among the VGG's"):
        step.build(TINY, Group(), VGG("vgg19", ("relu1_1",)))
    factors = step.build(paper, Group()).perceptual_card()
    assert factors["relu5_2"] == pytest.approx(0.01) and factors["relu1_2"] == pytest.approx(0.01 / 32)
