"""The shared layers against published shapes and plain formulas."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.common.average import Average
from models.common.blocks import Dense, EqualisedConv, InstanceNorm, constant_maps, pixel_norm, same_padding
from models.common.seeds import seeded


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [(8, 3, 2, (0, 1)), (7, 3, 2, (1, 1)), (8, 4, 1, (1, 2)), (8, 4, 2, (1, 1)), (9, 4, 2, (1, 2)), (8, 7, 1, (3, 3))],
)
def test_same_padding(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == expected
    assert (size + sum(expected) - kernel) // stride + 1 == math.ceil(size / stride)


def naive_conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """Output (i, j) looks at rows i * stride - before ...: TensorFlow's 'SAME', position by position."""
    _, height, width = x.shape
    k = weight.shape[-1]
    top, left = (max((math.ceil(n / stride) - 1) * stride + k - n, 0) // 2 for n in (height, width))
    out = np.zeros((len(weight), math.ceil(height / stride), math.ceil(width / stride)))
    for o, i, j in np.ndindex(out.shape):
        out[o, i, j] = bias[o]
        for a, b in np.ndindex(k, k):
            row, column = i * stride - top + a, j * stride - left + b
            if 0 <= row < height and 0 <= column < width:
                out[o, i, j] += weight[o, :, a, b] @ x[:, row, column]
    return out


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (4, 1), (4, 2), (3, 1), (7, 1)])
def test_convolution_is_tensorflows_same(kernel: int, stride: int) -> None:
    conv = EqualisedConv(2, 3, kernel, seeded(0), stride=stride, slope=0.2).double()
    conv.bias.data = torch.randn(3, generator=seeded(1), dtype=torch.float64)
    x = torch.randn(1, 2, 8, 6, generator=seeded(2), dtype=torch.float64)
    scale = math.sqrt(2 / (1.04 * 2 * kernel**2))
    wanted = naive_conv(x[0].numpy(), conv.weight.detach().numpy() * scale, conv.bias.detach().numpy(), stride)
    got = conv(x)[0].detach().numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
    if (kernel, stride) in ((3, 2), (4, 1)):  # PyTorch's even padding is another grid: the comparison sees it
        other = F.conv2d(x, conv.weight * scale, conv.bias, stride, 1 if kernel == 3 else 2)[0, :, :8, :6]
        shape = tuple(min(a, b) for a, b in zip(other.shape, wanted.shape, strict=True))
        assert np.abs(other.detach().numpy()[:, : shape[1], : shape[2]] - wanted[:, : shape[1], : shape[2]]).max() > 0.1


def test_equalised_start_keeps_the_variance() -> None:
    conv = EqualisedConv(64, 256, 3, seeded(0), slope=1.0)
    assert abs(float(conv.weight.detach().std()) - 1) < 0.01 and not conv.bias.any()
    out = conv(torch.randn(4, 64, 16, 16, generator=seeded(1)))[:, :, 1:-1, 1:-1]
    assert abs(float(out.detach().std()) - 1) < 0.05


def test_dense_start() -> None:
    layer = Dense(500, 400, 0.02, seeded(0))
    assert abs(float(layer.weight.detach().std()) - 0.02) < 0.001 and not layer.bias.any()


def test_pixel_norm_is_over_channels() -> None:
    x = torch.randn(2, 3, 4, 5, generator=seeded(0), dtype=torch.float64)
    wanted = torch.empty_like(x)
    for b, i, j in np.ndindex(2, 4, 5):
        v = x[b, :, i, j]
        wanted[b, :, i, j] = v / math.sqrt(sum(float(e) ** 2 for e in v) / 3 + 1e-8)
    torch.testing.assert_close(pixel_norm(x), wanted, rtol=1e-12, atol=0)


def test_instance_norm_is_per_picture_and_channel() -> None:
    norm = InstanceNorm(3).double()
    norm.weight.data, norm.bias.data = torch.tensor([1.0, 2, 3]).double(), torch.tensor([4.0, 5, 6]).double()
    x = torch.randn(2, 3, 4, 4, generator=seeded(0), dtype=torch.float64) * 0.01
    got = norm(x)
    for b, c in np.ndindex(2, 3):
        v = x[b, c].numpy()
        wanted = (v - v.mean()) / math.sqrt(v.var() + 1e-5) * (c + 1) + 4 + c
        np.testing.assert_allclose(got[b, c].detach().numpy(), wanted, rtol=1e-10)


def test_constant_maps() -> None:
    maps = constant_maps(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 5, 2, 3))
    assert maps.shape == (1, 2, 2, 3) and bool((maps[0, 0] == 1).all()) and bool((maps[0, 1] == 2).all())


def test_seeds_are_named() -> None:
    def draw(*parts: int | str) -> float:
        return float(torch.rand(1, generator=seeded(*parts)))

    assert draw(0, "mapper", 5) == draw(0, "mapper", 5)
    assert len({draw(0, "mapper", 5), draw(0, "mapper", 6), draw(1, "mapper", 5), draw(0, "encoder", 5)}) == 4


def test_average_is_exponential() -> None:
    net = torch.nn.utils.skip_init(torch.nn.Linear, 1, 1, bias=False)
    values = [1.0, 2.0, 4.0]
    net.weight.data.fill_(values[0])
    plain, warm = Average(net, 0.9), Average(net, 0.9, warm_up=True)
    wanted, wanted_warm = 1.0, 1.0
    for t, value in enumerate(values[1:]):
        net.weight.data.fill_(value)
        plain.update(net)
        warm.update(net)
        wanted = 0.9 * wanted + 0.1 * value
        decay = (1 + t) / (10 + t)
        wanted_warm = decay * wanted_warm + (1 - decay) * value
    assert float(plain.net.weight) == pytest.approx(wanted, rel=1e-6)
    assert float(warm.net.weight) == pytest.approx(wanted_warm, rel=1e-6)
    assert net.weight.requires_grad and not plain.net.weight.requires_grad
    plain.restart(net)
    assert float(plain.net.weight) == 4.0 and int(plain.count) == 0
