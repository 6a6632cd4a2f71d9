"""BicycleGAN's encoders: published sizes, and a block by hand."""

import pytest
import torch
import torch.nn.functional as F

from models.bicyclegan.networks import ConvEncoder, EncoderBlock, ResnetEncoder
from models.common.layers import initialise, normal
from models.common.seeds import seeded


@pytest.mark.parametrize(
    ("make", "depth", "wanted"),
    [
        (ResnetEncoder, 4, 2_590_032),
        (ResnetEncoder, 3, 1_344_080),
        (ConvEncoder, 5, 2_760_656),
        (ConvEncoder, 4, 1_711_824),
    ],
)
def test_published_sizes(make: type[ResnetEncoder] | type[ConvEncoder], depth: int, wanted: int) -> None:
    with torch.device("meta"):
        net = make(3, 8, 64, depth)
        assert sum(p.numel() for p in net.parameters()) == wanted
        mean, logvar = net(torch.zeros(2, 3, 256, 256))
    assert mean.shape == logvar.shape == (2, 8)
    heads = sum(p.numel() for p in net.heads.parameters())
    assert heads == 2 * 2_056


def test_the_last_map_is_eight_pixels_at_the_papers_size() -> None:
    """So that the mean over it is the code's pooling of 8 x 8."""
    with torch.device("meta"):
        net = ResnetEncoder(3, 8)
        x = net.first(torch.zeros(1, 3, 256, 256))
        for block in net.blocks:
            x = block(x)
    assert x.shape == (1, 256, 8, 8)


def test_block_by_hand() -> None:
    block = EncoderBlock(4, 6).double()
    initialise(block, seeded(0), normal(0.5), uniform_biases=True)
    x = torch.randn(2, 4, 6, 8, generator=seeded(1), dtype=torch.float64)

    def before(y: torch.Tensor) -> torch.Tensor:
        y = (y - y.mean((2, 3), keepdim=True)) / (y.var((2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
        return torch.where(y > 0, y, 0.2 * y)

    y = F.conv2d(before(x), block.first.weight, block.first.bias, padding=1)
    y = F.conv2d(before(y), block.second.weight, block.second.bias, padding=1)
    whole = y + F.conv2d(x, block.short.weight, block.short.bias)  # a 1 x 1 convolution commutes with the mean
    wanted = whole.view(2, 6, 3, 2, 4, 2).mean((3, 5))
    torch.testing.assert_close(block(x), wanted, rtol=1e-9, atol=1e-12)
