"""The U-Net and the residual generator: published sizes, where norm, dropout, biases and the code stand."""

import pytest
import torch
from torch import nn

from models.common.layers import Dropout, Live, initialise, normal
from models.common.norms import BatchNorm, NoNorm
from models.common.resnet import ResnetGenerator
from models.common.seeds import seeded
from models.common.unet import UNet
from models.group import Group


def size(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("levels", "channels", "outputs", "batch", "instance"),
    [
        (8, 3, 3, 54_413_955, 54_409_603),
        (8, 1, 3, 54_411_907, 54_407_555),
        (8, 3, 1, 54_409_857, 54_405_505),
        (8, 1, 2, 54_409_858, 54_405_506),
        (7, 3, 3, 41_828_995, 41_825_667),
    ],
)
def test_published_sizes(levels: int, channels: int, outputs: int, batch: int, instance: int) -> None:
    with torch.device("meta"):
        net = UNet(channels, outputs, levels)
        assert (size(net), size(UNet(channels, outputs, levels, norm="instance"))) == (batch, instance)
        assert net(torch.zeros(1, channels, 256, 512)).shape == (1, outputs, 256, 512)
    if (levels, channels, outputs) == (8, 3, 3):
        assert sum(b.numel() for b in net.buffers()) == 9_869


@pytest.mark.parametrize(
    ("levels", "channels", "where", "upsampling", "wanted"),
    [
        (8, 3, "all", "transposed", 54_794_627),
        (8, 1, "all", "transposed", 54_792_579),
        (8, 3, "input", "transposed", 54_417_795),
        (8, 1, "input", "transposed", 54_415_747),
        (7, 3, "all", "transposed", 42_145_155),
        (7, 1, "all", "transposed", 42_143_107),
        (8, 3, "all", "bilinear", 39_538_435),
    ],
)
def test_bicyclegan_sizes(levels: int, channels: int, where: str, upsampling: str, wanted: int) -> None:
    with torch.device("meta"):
        net = UNet(channels, 3, levels, norm="instance", code=8, code_in=where, upsampling=upsampling)  # type: ignore[arg-type]
        assert size(net) == wanted
        assert net(torch.zeros(2, channels, 256, 256), torch.zeros(2, 8)).shape == (2, 3, 256, 256)


@pytest.mark.parametrize(("blocks", "batch", "instance"), [(9, 11_383_427, 11_378_179), (6, 7_841_411, 7_837_699)])
def test_resnet_sizes(blocks: int, batch: int, instance: int) -> None:
    with torch.device("meta"):
        net = ResnetGenerator(3, 3, blocks=blocks)
        assert (size(net), size(ResnetGenerator(3, 3, blocks=blocks, norm="instance"))) == (batch, instance)
        assert net(torch.zeros(1, 3, 64, 100)).shape == (1, 3, 64, 100)
    with pytest.raises(ValueError, match="66 x 64 pixels: this generator halves 2 times and takes multiples of 4"):
        net(torch.zeros(1, 3, 66, 64))


def test_no_norm_at_the_ends_of_either_half() -> None:
    net = UNet(3, 3, 8)
    assert [isinstance(norm, NoNorm) for norm in net.down_norms] == [True] + [False] * 6 + [True]
    assert all(isinstance(norm, BatchNorm) for norm in net.up_norms) and len(net.up_norms) == 7
    assert [conv.bias is not None for conv in [*net.downs, *net.ups]] == [False] * 15 + [True]
    ups = [(conv.in_channels, conv.out_channels) for conv in net.ups]
    ins, outs = (512, 1024, 1024, 1024, 1024, 512, 256, 128), (512, 512, 512, 512, 256, 128, 64, 3)
    assert ups == list(zip(ins, outs, strict=True))


@pytest.mark.parametrize("dropped", [(1, 2, 3), (2, 3, 4)])
def test_dropout_stands_where_it_is_asked_for(dropped: tuple[int, ...]) -> None:
    net = UNet(3, 3, 8, width=1, dropped=dropped)
    rates = [layer.rate for layer in net.dropouts if isinstance(layer, Dropout)]
    assert [i for i, rate in enumerate(rates, 1) if rate] == list(dropped) and set(rates) == {0, 0.5}


def drawn(**options: object) -> UNet:
    net = UNet(3, 3, 4, width=4, **options)  # type: ignore[arg-type]
    initialise(net, seeded(0), normal(0.2))
    return net


def test_noise_is_dropout_from_the_generator_alone() -> None:
    net, x = drawn(dropped=(1, 2)), torch.randn(1, 3, 32, 32, generator=seeded(1))
    before = torch.random.get_rng_state()
    one, same, other = (net(x, live=Live(seeded(seed), Group())) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.allclose(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_picture_alone_is_normalised_by_itself() -> None:
    net, x = drawn(), torch.randn(3, 3, 32, 32, generator=seeded(1))
    alone = Live(seeded(0), None)
    torch.testing.assert_close(net(x, live=alone)[:1], net(x[:1], live=alone))
    batch = net.eval()(x[:1], live=Live(seeded(0), Group()))
    torch.testing.assert_close(net(x[:1], live=alone), batch)  # what batch 1 does
    assert not torch.allclose(net(x, live=alone)[:1], net(x, live=Live(seeded(0), Group()))[:1])


def test_skips_carry_what_the_bottleneck_cannot() -> None:
    """Without skips the picture depends on the input through the bottleneck alone."""
    x = torch.randn(1, 3, 32, 32, generator=seeded(1))
    for skips in (True, False):
        net = drawn(skips=skips, norm="instance")
        net.downs[-1].weight.data.zero_()
        moved = not torch.allclose(net(x), net(x.flip(2)), atol=1e-6)
        assert moved == skips


def naive_down(net: UNet, x: torch.Tensor, z: torch.Tensor) -> list[torch.Tensor]:
    """The first half as the equations say, written out for z in every layer."""
    found = []
    for i, conv in enumerate(net.downs):
        maps = torch.ones(len(x), z.shape[1], *x.shape[2:], dtype=x.dtype) * z[:, :, None, None]
        x = torch.cat([x, maps], 1)
        if i:
            x = torch.where(x > 0, x, 0.2 * x)
        x = nn.functional.conv2d(x, conv.weight, conv.bias, stride=2, padding=1)
        if 0 < i < len(net.downs) - 1:
            x = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
        found.append(x)
    return found


def test_forward_by_hand() -> None:
    net = drawn(norm="instance", code=3, code_in="all").double()
    x = torch.randn(2, 3, 16, 32, generator=seeded(1), dtype=torch.float64)
    z = torch.randn(2, 3, generator=seeded(2), dtype=torch.float64)
    levels = naive_down(net, x, z)
    y = levels[-1]
    for i, conv in enumerate(net.ups):
        y = torch.cat([levels[-1 - i], y], 1) if i else y
        y = nn.functional.conv_transpose2d(y.clamp_min(0), conv.weight, conv.bias, stride=2, padding=1)
        if i < 3:
            y = (y - y.mean((2, 3), keepdim=True)) / (y.var((2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(net(x, z), y.tanh(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("side", "passes"), [((512, 256), True), ((300, 300), False), ((384, 384), False)])
def test_sizes_that_do_not_fit_are_named(side: tuple[int, int], passes: bool) -> None:
    with torch.device("meta"):
        net, x = UNet(3, 3, 8, width=1), torch.zeros(1, 3, *side)
        if passes:
            assert net(x).shape == x.shape
        else:
            with pytest.raises(ValueError, match=r"halves 8 times and takes multiples of 256"):
                net(x)


def test_a_code_of_the_wrong_length_is_named() -> None:
    x = torch.zeros(1, 3, 16, 16)
    with pytest.raises(ValueError, match="a code of 4 entries for a generator built with 3"):
        drawn(code=3)(x, torch.zeros(1, 4))
    with pytest.raises(ValueError, match="a code of 0 entries for a generator built with 3"):
        drawn(code=3)(x)
    with pytest.raises(ValueError, match="a code of 3 entries for a generator built with 0"):
        drawn()(x, torch.zeros(1, 3))
    with pytest.raises(ValueError, match="--levels 1"):
        UNet(3, 3, 1)
