"""Weights and masks come from generators that are passed in; norms and dropout against naive versions."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.common.layers import Conv, Dropout, Linear, Live, Transposed, initialise, kaiming, normal, xavier
from models.common.norms import BatchNorm, PlainInstanceNorm, norm_layer
from models.common.optimise import adam, move
from models.common.seeds import seeded
from models.group import Group
from tests.ranks import on_two_ranks


def net() -> nn.Sequential:
    return nn.Sequential(Conv(8, 64, 5), Transposed(32, 16, 3), Linear(256, 128), BatchNorm(512))


def test_building_and_drawing_leave_global_randomness_alone() -> None:
    before = torch.random.get_rng_state()
    first, second, other = net(), net(), net()
    assert all(not p.any() for layer in first[:3] for p in layer.parameters())
    for built, seed in [(first, 0), (second, 0), (other, 1)]:
        initialise(built, seeded(seed), normal())
    assert torch.equal(before, torch.random.get_rng_state())
    for a, b, c in zip(first.parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b) and (not a.any() or not torch.equal(a, c))


@pytest.mark.parametrize(
    ("fill", "wanted"),
    [
        (normal(0.02), [0.02, 0.02, 0.02]),
        # Fans: 8 * 25 in, 64 * 25 out; transposed 16 * 9 and 32 * 9; 256 and 128.
        (xavier(0.02), [0.02 * math.sqrt(2 / 1800), 0.02 * math.sqrt(2 / 432), 0.02 * math.sqrt(2 / 384)]),
        (kaiming(), [math.sqrt(2 / 200), math.sqrt(2 / 144), math.sqrt(2 / 256)]),
    ],
)
def test_deviations(fill: Any, wanted: list[float]) -> None:
    built = net().requires_grad_(False)
    initialise(built, seeded(0), fill)
    for layer, deviation in zip(built, wanted, strict=False):
        assert float(layer.weight.std()) == pytest.approx(deviation, rel=0.05)
        assert abs(float(layer.weight.mean())) < 0.1 * deviation and not layer.bias.any()
    assert float(built[3].weight.std()) == pytest.approx(0.02, rel=0.15)
    assert float(built[3].weight.mean()) == pytest.approx(1, abs=0.005) and not built[3].bias.any()


def test_uniform_biases_are_pytorchs_own() -> None:
    built = net().requires_grad_(False)
    initialise(built, seeded(0), normal(), uniform_biases=True)
    for layer, fan in zip(built, [200, 16 * 9, 256], strict=False):
        most = float(layer.bias.abs().max())
        assert 0.8 * fan**-0.5 < most <= fan**-0.5
    # The bound as PyTorch's own layer draws it.
    torch_layer = nn.ConvTranspose2d(32, 4096, 3)
    assert float(torch_layer.bias.detach().abs().max()) == pytest.approx((4096 * 9) ** -0.5, rel=0.02)


def test_dropout_by_hand() -> None:
    x = torch.randn(2, 3, 4, 5, generator=seeded(0))
    before = torch.random.get_rng_state()
    out = Dropout(0.25)(x, Live(seeded(1), None))
    again = Dropout(0.25)(x, Live(seeded(1), None))
    assert torch.equal(before, torch.random.get_rng_state())
    mask = torch.rand(2, 3, 4, 5, generator=seeded(1)) >= 0.25
    torch.testing.assert_close(out, torch.where(mask, x / 0.75, torch.zeros(())))
    assert torch.equal(out, again)
    assert torch.equal(Dropout(0.25)(x, None), x) and torch.equal(Dropout(0)(x, Live(seeded(1), None)), x)
    many = Dropout(0.5)(torch.ones(1, 64, 64, 64), Live(seeded(2), None))
    assert float((many == 0).double().mean()) == pytest.approx(0.5, abs=0.005) and float(many.max()) == 2
    with pytest.raises(ValueError, match="--dropout 1"):
        Dropout(1.0)


def test_workers_share_the_masks_of_the_global_batch() -> None:
    x = torch.ones(4, 3, 2, 2)
    whole = Dropout()(x, Live(seeded(1), Group()))
    parts = [
        Dropout()(x[:2], Live(seeded(1), SimpleNamespace(piece=piece, pieces=2)))  # type: ignore[arg-type]
        for piece in (0, 1)
    ]
    assert torch.equal(whole, torch.cat(parts)) and not torch.equal(parts[0], parts[1])


# Norms ---------------------------------------------------------------------------------------------------------------


def naive(x: np.ndarray, over_batch: bool, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    for b, c in np.ndindex(x.shape[:2]):
        seen = x[:, c] if over_batch else x[b, c]
        out[b, c] = (x[b, c] - seen.mean()) / math.sqrt(seen.var() + 1e-5) * scale[c] + shift[c]
    return out


def test_norms_by_hand() -> None:
    x = torch.randn(3, 4, 5, 6, generator=seeded(0), dtype=torch.float64) * 3 + 1
    layer = BatchNorm(4).double()
    layer.weight.data = torch.randn(4, generator=seeded(1), dtype=torch.float64)
    layer.bias.data = torch.randn(4, generator=seeded(2), dtype=torch.float64)
    scale, shift = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    own = layer.eval()(x, Live(seeded(0), None)).detach().numpy()
    np.testing.assert_allclose(own, naive(x.numpy(), False, scale, shift), rtol=1e-9)
    batch = layer(x, Live(seeded(0), Group())).detach().numpy()
    np.testing.assert_allclose(batch, naive(x.numpy(), True, scale, shift), rtol=1e-9)
    assert not layer.running_mean.any()  # used, not trained: nothing moves
    layer.train()(x, Live(seeded(0), Group()))
    torch.testing.assert_close(layer.running_mean, 0.1 * x.mean((0, 2, 3)))
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * x.transpose(0, 1).reshape(4, -1).var(1))
    used = (x - layer.running_mean[:, None, None]) / (layer.running_var + 1e-5).sqrt()[:, None, None]
    wanted = used * layer.weight[:, None, None] + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, None), wanted)
    plain = norm_layer("instance", 4)(x).numpy()
    np.testing.assert_allclose(plain, naive(x.numpy(), False, np.ones(4), np.zeros(4)), rtol=1e-9)
    assert not list(PlainInstanceNorm().parameters())


def test_one_number_a_channel_is_refused() -> None:
    one = torch.ones(1, 4, 1, 1)
    with pytest.raises(ValueError, match="batch norm sees one number a channel"):
        BatchNorm(4)(one, Live(seeded(0), Group()))
    with pytest.raises(ValueError, match="batch norm sees one number a channel"):
        BatchNorm(4)(one.expand(2, 4, 1, 1), Live(seeded(0), None))  # two pictures, each by its own statistics
    with pytest.raises(ValueError, match="instance norm sees one number a channel"):
        PlainInstanceNorm()(one)
    BatchNorm(4)(one.expand(2, 4, 1, 1), Live(seeded(0), Group()))
    BatchNorm(4)(one, None)
    with pytest.raises(ValueError, match="--norm layer: choose one of batch, instance, none"):
        norm_layer("layer", 4)  # type: ignore[arg-type]


def batch_norm_step(x: Tensor, group: Group) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    layer = BatchNorm(4).double()
    first = nn.Parameter(torch.ones(4, 1, 1, dtype=torch.float64) * 0.7)
    y = layer(x * first, Live(seeded(0), group))
    (y.square() * torch.linspace(0, 1, 30, dtype=torch.float64).view(5, 6)).mean().backward()
    group.average([first, *layer.parameters()])
    assert first.grad is not None and layer.weight.grad is not None and layer.running_var is not None
    return y.detach(), first.grad, layer.weight.grad, layer.running_var


def _worker(rank: int) -> Any:
    x = torch.randn(4, 4, 5, 6, generator=seeded(0), dtype=torch.float64)
    return batch_norm_step(x.chunk(2)[rank], Group())


def test_batch_norm_spans_the_workers(tmp_path: Path) -> None:
    x = torch.randn(4, 4, 5, 6, generator=seeded(0), dtype=torch.float64)
    y, *rest = batch_norm_step(x, Group())
    parts = on_two_ranks(tmp_path, _worker)
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), y, rtol=1e-10, atol=1e-12)
    for part in parts:
        for mine, whole in zip(part[1:], rest, strict=True):
            torch.testing.assert_close(mine, whole, rtol=1e-9, atol=1e-12)
    alone = batch_norm_step(x[:2], Group())[0]
    assert float((alone - y[:2]).abs().max()) > 1e-2  # the comparison would see statistics of one rank alone


def test_a_clipped_gradient_has_the_norm_that_is_allowed() -> None:
    """By plain gradient descent: what the weights move by is the gradient. One tensor serves both parameters."""
    grad = torch.full((8,), 3.0)  # the norm of both together: 12
    for clip, wanted in ((0.0, 3.0), (20.0, 3.0), (6.0, 1.5)):
        params = [nn.Parameter(torch.zeros(8)) for _ in range(2)]
        move(Group(alone=True), torch.optim.SGD(params, lr=0.0), params, [grad, grad], 1.0, clip)
        for p in params:
            torch.testing.assert_close(p.detach(), torch.full((8,), -wanted))
    assert grad[0] == 3


def test_a_step_does_not_depend_on_how_weights_lie_in_memory() -> None:
    """Fused Adam walks memory: with gradients that lie otherwise than channels-last weights it would mix them up."""
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(torch.randn(4, 3, 5, 5, generator=seeded("weight")).to(memory_format=layout))
        optimiser = adam([weight], (0.5, 0.999))
        for step in range(3):
            grad = torch.randn(4, 3, 5, 5, generator=seeded("grad", step))
            given = grad if step != 1 else grad.to(memory_format=torch.channels_last)
            move(Group(alone=True), optimiser, [weight], [given], 0.1)
        found.append(weight.detach().contiguous())
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
