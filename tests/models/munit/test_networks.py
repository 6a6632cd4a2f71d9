"""MUNIT's networks: published sizes, AdaIN and layer norm by hand, where norm stands and where not."""

import numpy as np
import torch

from models.common.seeds import seeded
from models.munit.networks import Generator, LayerNorm, StyledBlock, adain


def size(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_published_sizes() -> None:
    with torch.device("meta"):
        net = Generator()
        assert size(net) == 15_026_187 and size(Generator(channels=1)) == 15_007_369
        assert (size(net.style), size(net.content)) == (2_764_936, 5_385_856)
        assert size(net.decoder.mlp) == 1_120_768 and size(net.decoder) - size(net.decoder.mlp) == 5_754_627
        content, style = net.content(torch.zeros(2, 3, 256, 256)), net.style(torch.zeros(2, 3, 256, 256))
        assert content.shape == (2, 256, 64, 64) and style.shape == (2, 8)
        assert net.decoder(content, style).shape == (2, 3, 256, 256)
    assert [layer.out_features for layer in net.decoder.mlp] == [256, 256, 4096]


def test_adain_by_hand() -> None:
    x = torch.randn(2, 3, 4, 5, generator=seeded(0), dtype=torch.float64)
    shift, scale = (torch.randn(2, 3, generator=seeded(i), dtype=torch.float64) for i in (1, 2))
    out = adain(x, shift, scale)
    for b, c in np.ndindex(2, 3):
        seen = x[b, c].numpy()
        wanted = (seen - seen.mean()) / np.sqrt(seen.var() + 1e-5) * float(scale[b, c]) + float(shift[b, c])
        np.testing.assert_allclose(out[b, c].numpy(), wanted, rtol=1e-9)


def test_the_first_half_of_a_layers_numbers_is_the_shift() -> None:
    """Scale 0 (not 1 + 0) leaves the shift alone, which the ReLU passes; the second layer's likewise."""
    block = StyledBlock(4)
    x = torch.randn(1, 4, 6, 6, generator=seeded(0))
    numbers = torch.zeros(1, 16)
    torch.testing.assert_close(block(x, numbers), x)
    numbers[:, 8:12] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    torch.testing.assert_close(block(x, numbers) - x, torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1).expand_as(x))


def test_layer_norm_by_hand() -> None:
    layer = LayerNorm(3).double().requires_grad_(False)
    layer.gamma.data, layer.beta.data = (torch.randn(3, generator=seeded(i), dtype=torch.float64) for i in (1, 2))
    x = torch.randn(2, 3, 2, 2, generator=seeded(0), dtype=torch.float64) * 1e-3
    out = layer(x).numpy()
    for b in range(2):
        seen = x[b].numpy()
        unit = (seen - seen.mean()) / (seen.std(ddof=1) + 1e-5)  # the deviation, not the variance, is enlarged
        for c in range(3):
            wanted = unit[c] * float(layer.gamma[c]) + float(layer.beta[c])
            np.testing.assert_allclose(out[b, c], wanted, rtol=1e-9)


def test_first_weights() -> None:
    net = Generator(width=8, hidden=32)
    before = torch.random.get_rng_state()
    net.draw(seeded(0))
    assert torch.equal(before, torch.random.get_rng_state())
    gammas = torch.cat([layer.gamma for layer in net.modules() if isinstance(layer, LayerNorm)]).detach()
    assert float(gammas.min()) >= 0 and float(gammas.max()) <= 1 and 0.3 < float(gammas.mean()) < 0.7
    weight = net.content.blocks[0].first.weight.detach()
    assert 0.9 < float(weight.std()) / (2 / (32 * 9)) ** 0.5 < 1.1
    assert all(not layer.bias.any() for layer in net.modules() if isinstance(layer, torch.nn.Conv2d))


def test_style_keeps_what_content_drops() -> None:
    """Brightness and contrast: instance norm takes them from the content, the style encoder has no norm."""
    net = Generator(width=4, hidden=8)
    net.draw(seeded(0))
    with torch.no_grad():
        x = torch.rand(1, 3, 32, 32, generator=seeded(1)) - 0.5
        for moved in (0.5 * x, x + 0.3):
            assert float((net.content(moved) - net.content(x)).abs().max()) < 0.05
            assert float((net.style(moved) - net.style(x)).abs().max()) > 0.05
