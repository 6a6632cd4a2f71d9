"""Conditional IMLE's networks: published sizes, normalisation and pyramids against loops."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from models import imle
from models.common.seeds import seeded
from models.group import Group
from models.imle.networks import Generator, LayerNorm, NoiseEncoder, Refinement, label_pyramid, noise_pyramid


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_published_sizes() -> None:
    with torch.device("meta"):
        generator = Generator(20, 10, imle.PRESETS["paper"].widths, torch.Generator())
        encoder = NoiseEncoder(20, 10, torch.Generator())
    assert count(generator) == 98_416_131  # 98.4 million
    assert count(encoder) == 118_410
    recipe = imle.PRESETS["paper"]
    assert recipe.frame == (256, 512) and recipe.imle_images + recipe.settle_images == 160_000


def test_layer_norm_is_over_the_whole_sample() -> None:
    x = torch.randn(3, 4, 5, 6, generator=seeded(0)) * torch.tensor([1.0, 5, 0.2, 3]).view(1, 4, 1, 1)
    norm = LayerNorm(4)
    nn.init.uniform_(norm.weight, generator=seeded(1))
    nn.init.uniform_(norm.bias, generator=seeded(2))
    for i, sample in enumerate(x):
        flat = sample.double().flatten()
        plain = (sample.double() - flat.mean()) / flat.var(correction=0).sqrt()
        wanted = plain * norm.weight.double().view(-1, 1, 1) + norm.bias.double().view(-1, 1, 1)
        torch.testing.assert_close(norm(x)[i].double(), wanted, rtol=1e-5, atol=1e-5)


def test_labels_shrink_by_averages_and_noise_by_leaving_pixels_out() -> None:
    x = torch.rand(1, 2, 8, 16, generator=seeded(0))
    coarse = label_pyramid(x, 3)[0]
    for row in range(2):
        for column in range(4):
            block = x[0, 1, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert float(coarse[0, 1, row, column]) == pytest.approx(float(block.mean()), rel=1e-6)
    z = torch.randn(1, 4, 256, 256, generator=seeded(1))
    levels = noise_pyramid([z], 5)
    assert [tuple(level.shape[2:]) for level in levels] == [(16, 16), (32, 32), (64, 64), (128, 128), (256, 256)]
    assert float(levels[1][0, 3, 5, 7]) == float(z[0, 3, 40, 56])
    for level in levels:  # averages of 2 x 2 would halve it from one level to the next
        assert float(level.std()) == pytest.approx(1.0, abs=5 / (2 * level.numel()) ** 0.5)


def test_every_level_sees_labels_and_noise_and_the_level_before() -> None:
    net = Generator(3, 2, (4, 5, 6), seeded(0))
    x, z = torch.rand(1, 3, 16, 32, generator=seeded(1)), torch.randn(1, 2, 16, 32, generator=seeded(2))
    assert net(x, z).shape == (1, 3, 16, 32)
    assert [level.first.weight.shape[1] for level in net.levels] == [5, 9, 10]  # type: ignore[union-attr]
    seen: list[Tensor] = []
    for level in net.levels:
        level.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(x, z)
    for level, given in enumerate(seen):
        assert torch.equal(given[:, -2:], z[:, :, :: 4 >> level, :: 4 >> level])
        assert given.shape[2:] == (4 << level, 8 << level)
    # Corners aligned: the enlarged features have the coarse ones' corners.
    coarse = net.levels[0](seen[0])
    torch.testing.assert_close(seen[1][:, :4, ::7, ::15], coarse[:, :, ::3, ::7])


def test_noise_weights_are_drawn_anew_at_five_times_the_others() -> None:
    net = Generator(3, 2, (64, 64), seeded(0))
    before = [level.first.weight.detach().clone() for level in net.levels]  # type: ignore[union-attr]
    net.open_noise(seeded(1))
    for old, level in zip(before, net.levels, strict=True):
        weight = level.first.weight.detach()  # type: ignore[union-attr]
        assert torch.equal(weight[:, :-2], old[:, :-2])
        assert float(weight[:, -2:].std() / old[:, :-2].square().mean().sqrt()) == pytest.approx(5, rel=0.1)


def test_encoders_weights_are_cut_normals() -> None:
    weight = NoiseEncoder(20, 10, seeded(0)).refine.first.weight.detach()
    assert float(weight.abs().max()) <= 0.3 and float(weight.std()) == pytest.approx(0.15 * 0.88, rel=0.02)


def test_refinement_slope() -> None:
    block, x = Refinement(1, 2, seeded(0)), torch.randn(1, 1, 8, 8, generator=seeded(1))
    first = block.first_norm(block.first(x))
    second = block.second_norm(block.second(torch.maximum(first, 0.2 * first)))
    torch.testing.assert_close(block(x), torch.maximum(second, 0.2 * second))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 32}, "--size 32: 3 --widths refine from 4 to 16"),
        ({"samples": 0}, "--samples 0"),
        ({"set_size": 6}, "--set-size 6 is not a multiple of --set-batch 4"),
        ({"perceptual_factors": "paper", "perceptual_layers": ("relu1_1",)}, "the paper has no factor"),
    ],
)
def test_sizes_that_do_not_fit(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        imle.build(dataclasses.replace(imle.PRESETS["tiny"], **change), Group())  # type: ignore[arg-type]
