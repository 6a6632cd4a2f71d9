"""pix2pixHD's generator: published sizes, what an enhancer adds, the soft labels of the coarse level."""

import pytest
import torch

from models.common.layers import initialise, normal
from models.common.pyramid import halve
from models.common.resnet import ResnetGenerator
from models.common.seeds import seeded
from models.pix2pixhd.networks import Generator


def size(*nets: torch.nn.Module) -> int:
    return sum(p.numel() for net in nets for p in net.parameters())


@pytest.mark.parametrize(
    ("channels", "wanted"), [(36, 182_546_755), (39, 182_556_163), (35, 182_543_619), (3, 182_443_267)]
)
def test_global_sizes(channels: int, wanted: int) -> None:
    with torch.device("meta"):
        net = Generator(channels)
        assert size(net) == wanted
        assert net(torch.zeros(1, channels, 32, 64)).shape == (1, 3, 32, 64)


@pytest.mark.parametrize(
    ("channels", "width", "enhancers", "wanted"),
    [(36, 32, 1, 182_857_059), (39, 32, 1, 182_871_171), (3, 32, 1, 182_701_827), (36, 16, 2, 182_947_699)],
)
def test_local_sizes(channels: int, width: int, enhancers: int, wanted: int) -> None:
    """The published counts are without the global network's last convolution, which the enhancers replace."""
    with torch.device("meta"):
        net = Generator(channels, width, enhancers=enhancers)
        assert size(net) - size(net.coarse.head) == wanted
        assert net.multiple == 16 << enhancers
        assert net(torch.zeros(1, channels, 128, 256)).shape == (1, 3, 128, 256)


def test_parts_of_the_local_generator() -> None:
    with torch.device("meta"):
        net = Generator(36, 32, enhancers=1)
    assert size(net.coarse) - size(net.coarse.head) == 182_537_344
    enhancer = net.enhancers[0]
    assert size(enhancer.first, enhancer.down) == 74_976
    assert size(enhancer.blocks, enhancer.up, net.heads) == 244_739


def test_three_halvings_are_another_network() -> None:
    """The builder's default of the released code, which its command line never uses."""
    with torch.device("meta"):
        assert size(ResnetGenerator(36, 3, downs=3, norm="instance")) == 45_696_835
        assert size(ResnetGenerator(3, 3, 16, 4, 0, "instance")) == 788_803  # the encoder of instance features


def test_forward_by_hand() -> None:
    net = Generator(5, 4, downs=1, blocks=1, enhancers=2, enhancer_blocks=1).double()
    initialise(net, seeded(0), normal(0.2), uniform_biases=True)
    x = torch.randn(1, 5, 16, 24, generator=seeded(1), dtype=torch.float64)
    x2, x4 = halve(x), halve(halve(x))
    y = net.enhancers[1](x, net.enhancers[0](x2, net.coarse.features(x4)))
    torch.testing.assert_close(net(x), net.heads[0](y).tanh())
    assert [e.first.out_channels for e in net.enhancers] == [8, 4] and net.coarse.first.out_channels == 16
    with pytest.raises(ValueError, match=r"12 x 24 pixels: with 2 enhancers the sides must be multiples of 8"):
        net(x[:, :, :12])


def test_biases_are_not_zeroed() -> None:
    """Unlike pix2pix: the released code draws weights only and leaves PyTorch's biases."""
    net = ResnetGenerator(36, 3, 8, norm="instance")
    initialise(net, seeded(0), normal(0.02), uniform_biases=True)
    layer = net.blocks[0].first
    bound = (32 * 9) ** -0.5
    assert 0.5 * bound < float(layer.bias.detach().abs().max()) <= bound
