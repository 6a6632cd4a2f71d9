"""Patch discriminators: published sizes, maps and receptive fields; the pyramid by hand."""

import numpy as np
import pytest
import torch

from models.common.critics import MultiScale, PatchCritic, logits, patch_critic
from models.common.layers import initialise, normal
from models.common.pyramid import halve, pyramid
from models.common.seeds import seeded


def size(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


# Layers of stride 2, receptive field, side of the map at 256, parameters with batch norm and with instance norm.
PUBLISHED = [
    (0, 1, 256, 9_024, 8_897),
    (1, 16, 126, 139_585, 139_457),
    (2, 34, 62, 666_433, 666_049),
    (3, 70, 30, 2_768_705, 2_767_809),
    (4, 142, 14, 6_964_033, 6_962_625),
    (5, 286, 6, 11_159_361, 11_157_441),
    (6, 574, 2, 15_354_689, 15_352_257),
]


@pytest.mark.parametrize(("layers", "field", "side", "batch", "instance"), PUBLISHED)
def test_pix2pix_table(layers: int, field: int, side: int, batch: int, instance: int) -> None:
    with torch.device("meta"):
        net = patch_critic(6, layers=layers)
        assert (size(net), size(patch_critic(6, layers=layers, norm="instance"))) == (batch, instance)
        assert net(torch.zeros(1, 6, 256, 256))[-1].shape == (1, 1, side, side)
    assert net.receptive_field == field and net.map_side(256) == side


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_receptive_field_is_what_a_logit_depends_on(layers: int) -> None:
    net = patch_critic(1, width=2, layers=layers, norm="none")
    initialise(net, seeded(0), normal(1.0))
    x = torch.randn(1, 1, 160, 160, generator=seeded(1), requires_grad=True)
    out = net(x)[-1]
    out[0, 0, out.shape[2] // 2, out.shape[3] // 2].backward()
    assert x.grad is not None
    seen = x.grad[0, 0] != 0
    assert int(seen.any(0).sum()) == int(seen.any(1).sum()) == net.receptive_field


def test_other_papers_sizes() -> None:
    with torch.device("meta"):
        assert size(patch_critic(3, norm="instance")) == 2_764_737  # CycleGAN's, BicycleGAN's first scale
        assert size(patch_critic(3, width=32, norm="instance")) == 694_241
        for channels, wanted in [(3, 3_458_978), (4, 3_460_514), (6, 3_463_586)]:  # BicycleGAN, 2 scales
            assert size(MultiScale([patch_critic(channels, w, norm="instance") for w in (64, 32)])) == wanted
        assert size(MultiScale([patch_critic(3, w, 2, "instance") for w in (64, 32)])) == 830_626  # basic_128_multi
        assert size(patch_critic(39, norm="instance", padding=2)) == 2_801_601  # pix2pixHD
        for channels, scales, wanted in [(39, 2, 5_603_202), (39, 3, 8_404_803), (6, 2, 5_535_618), (6, 3, 8_303_427)]:
            critics = [patch_critic(channels, norm="instance", padding=2) for _ in range(scales)]
            assert size(MultiScale(critics)) == wanted
        munit = PatchCritic(3, (64, 128, 256, 512), (2,) * 4, head_kernel=1, norm="none", padding_mode="reflect")
        assert size(munit) == 2_757_057 and munit.receptive_field == 46
        maps = logits(MultiScale([munit] * 3)(torch.zeros(1, 3, 256, 256)))
    assert [m.shape[-1] for m in maps] == [16, 8, 4]


def test_fields_of_the_coarser_scales() -> None:
    """A pixel at half size is a mean of 3, at a quarter of 7: the fields in pixels of the picture."""
    for field, fields in [(70, (70, 141, 283)), (46, (46, 93, 187))]:
        assert fields == (field, (field - 1) * 2 + 3, (field - 1) * 4 + 7)
    net = MultiScale([patch_critic(1, 2, norm="none", padding=2) for _ in range(3)])
    initialise(net, seeded(0), normal(1.0))
    x = torch.randn(1, 1, 640, 640, generator=seeded(1), requires_grad=True)
    for map_, wanted in zip(logits(net(x)), (70, 141, 283), strict=True):
        (grad,) = torch.autograd.grad(map_[0, 0, map_.shape[2] // 2, map_.shape[3] // 2], x, retain_graph=True)
        assert int((grad[0, 0] != 0).any(0).sum()) == wanted


def test_pix2pixhd_maps() -> None:
    with torch.device("meta"):
        critics = [patch_critic(39, norm="instance", padding=2) for _ in range(3)]
        scales = MultiScale(critics)(torch.zeros(1, 39, 256, 512))
    assert [tuple(s[-1].shape[2:]) for s in scales] == [(35, 67), (19, 35), (11, 19)]
    features = [(64, 129, 257), (128, 65, 129), (256, 33, 65), (512, 34, 66)]
    assert [tuple(layer.shape[1:]) for layer in scales[0][:-1]] == features
    assert size(critics[0].convs[0]) == 39 * 64 * 16 + 64 and 122_368 == 39 * 64 * 49 + 64  # its G's first is 7 x 7


def test_biases_stand_where_no_batch_norm_follows() -> None:
    net = patch_critic(6)
    assert [conv.bias is not None for conv in net.layers()] == [True, False, False, False, True]
    assert all(conv.bias is not None for conv in patch_critic(6, norm="instance").layers())


def test_halving_by_hand() -> None:
    x = torch.randn(2, 3, 7, 8, generator=seeded(0), dtype=torch.float64)
    out = halve(x)
    assert out.shape == (2, 3, 4, 4)
    for b, c, i, j in np.ndindex(*out.shape):
        window = x[b, c, max(2 * i - 1, 0) : 2 * i + 2, max(2 * j - 1, 0) : 2 * j + 2]
        assert float(out[b, c, i, j]) == pytest.approx(float(window.mean()), rel=1e-12)  # pixels outside do not count
    levels = pyramid(x, 3)
    assert levels[0] is x and torch.equal(levels[2], halve(out)) and len(levels) == 3
