"""Backbones: shapes, heads, weights from the passed generator, norms as PyTorch's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.common.seeds import seeded
from models.gans.networks import began, dcgan, perceptron, resnet
from models.gans.networks.critic import Headed
from models.gans.networks.layers import ACTIVATIONS, BatchNorm, Chain, Dropout, Maxout, Noise, SmoothELU, he, linear
from models.gans.terms import Random
from models.group import Group

GROUP = Group()


def drawn() -> torch.Generator:
    return seeded("weights")


def random() -> Random:
    return Random(seeded("noise"), GROUP)


@pytest.mark.parametrize("size", [28, 32, 64])
def test_dcgans_shapes(size: int) -> None:
    maker = dcgan.Maker(10, size, 3, 8, drawn(), GROUP)
    x = maker(torch.randn(4, 10, generator=seeded("z")))
    assert x.shape == (4, 3, size, size) and float(x.detach().abs().max()) <= 1
    for norm in ("batch", "layer", "none"):
        trunk = dcgan.Trunk(size, 3, 8, drawn(), norm, GROUP, dropout=0.5)
        assert trunk(x, None, random()).shape == (4, trunk.width)
        norms = [m for m in trunk.modules() if isinstance(m, BatchNorm | nn.GroupNorm)]
        assert len(norms) == (0 if norm == "none" else len(trunk.steps) - 1)  # none on the first layer
    hidden = dcgan.Trunk(size, 3, 8, drawn(), "batch", GROUP, hidden=20)
    assert hidden(x, None, random()).shape == (4, 20)


def test_dcgans_coarsest_sides() -> None:
    assert [dcgan.base(s) for s in (28, 32, 64, 16)] == [(7, 2), (4, 3), (4, 4), (4, 2)]
    with pytest.raises(ValueError, match="--size 30: give 4 to 7 times a power of two"):
        dcgan.base(30)


def test_other_shapes() -> None:
    z = torch.randn(4, 10, generator=seeded("z"))
    x = resnet.Maker(10, 3, 8, drawn(), GROUP)(z)
    assert x.shape == (4, 3, 32, 32) and resnet.Trunk(3, 8, drawn())(x, None, random()).shape == (4, 8)
    for size in (28, 32, 64):
        picture = began.Decoder(10, size, 3, 4, drawn())(z)
        assert picture.shape == (4, 3, size, size)
        assert began.encoder(6, size, 3, 4, drawn())(picture).shape == (4, 6)
    points = perceptron.Maker(10, (16,), (2,), drawn(), bounded=False)(z)
    assert points.shape == (4, 2)
    for activation in ACTIVATIONS:
        trunk = perceptron.Trunk(2, (16, 8), drawn(), activation)
        assert trunk(points, None, random()).shape == (4, 8)


def test_resnet_sizes_are_wgan_gps() -> None:
    """128 channels: 9 convolutions 3 x 3 and two shortcuts in the critic, counted by hand."""
    trunk = resnet.Trunk(3, 128, drawn())
    wide, first, short = 128 * 128 * 9 + 128, 3 * 128 * 9 + 128, (3 + 1) * 128 + (128 * 128 + 128)
    assert sum(p.numel() for p in trunk.parameters()) == first + 7 * wide + short


def test_scores_are_linear() -> None:
    """No sigmoid at the end: they follow the features without bound."""
    net = Headed(nn.Module(), {"score": linear(3, 1, drawn()), "logits": linear(3, 4, drawn())})
    net.trunk.forward = lambda x, y, random: x  # type: ignore[method-assign, union-attr, assignment]
    x = torch.randn(5, 3, generator=seeded("x"))
    small, large = net(x, None, random()), net(x * 1000, None, random())
    torch.testing.assert_close(large["score"], small["score"] * 1000)
    assert small["score"].shape == (5,) and float(large["score"].detach().abs().max()) > 100
    assert not torch.allclose(small["logits"].exp().sum(1), torch.ones(5), atol=0.05)


def test_classes_reach_every_layer() -> None:
    for trunk, x in (
        (perceptron.Trunk(6, (16, 8), drawn(), classes=4), torch.ones(2, 6)),
        (dcgan.Trunk(28, 1, 4, drawn(), "none", classes=4), torch.ones(2, 1, 28, 28)),
    ):
        found = trunk(x, torch.tensor([0, 3]), random())
        assert float((found[0] - found[1]).detach().abs().max()) > 1e-4
        assert trunk.embed is not None and len(trunk.steps) == 2


def test_weights_come_from_the_generator_alone() -> None:
    before = torch.random.get_rng_state()
    one, two = (dcgan.Maker(10, 28, 1, 8, seeded("a"), GROUP).state_dict() for _ in range(2))
    other = dcgan.Maker(10, 28, 1, 8, seeded("b"), GROUP).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not torch.equal(one["dense.0.weight"], other["dense.0.weight"])
    wide = linear(400, 300, seeded("he"), he)
    assert float(wide.weight.detach().std()) == pytest.approx(math.sqrt(2 / 400), rel=0.02)
    assert float(one["dense.0.weight"].std()) == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("shape", [(16, 5), (8, 5, 4, 4)])
def test_batch_norm_is_pytorchs(shape: tuple[int, ...]) -> None:
    class Two(Group):
        """One process in the role of a group: the general formula on the whole batch."""

        def __init__(self) -> None:
            super().__init__()
            self.on = True

        def gather(self, x: Tensor) -> Tensor:
            return x

    x = torch.randn(*shape, generator=seeded("x"), dtype=torch.float64) * 3 + 1
    theirs: nn.Module = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(5).double()
    for group in (Group(), Two()):
        ours, theirs2 = BatchNorm(5, group).double(), type(theirs)(5).double()  # type: ignore[call-arg]
        torch.testing.assert_close(ours(x), theirs2(x))
        torch.testing.assert_close(ours.mean, theirs2.running_mean)
        torch.testing.assert_close(ours.variance, theirs2.running_var)
        torch.testing.assert_close(ours.eval()(x), theirs2.eval()(x))


def test_noise_layers_draw_from_what_they_are_passed() -> None:
    x, before = torch.ones(400, 50), torch.random.get_rng_state()
    chain = Chain([Noise(0.3), Dropout(0.5)])
    a, b = chain(x, random()), chain(x, random())
    assert torch.equal(a, b) and torch.equal(torch.random.get_rng_state(), before)
    assert float((a == 0).double().mean()) == pytest.approx(0.5, abs=0.02)
    kept = a[a != 0]
    assert float(kept.mean()) == pytest.approx(2, abs=0.02) and float(kept.std()) == pytest.approx(0.6, abs=0.02)
    assert torch.equal(chain.eval()(x, random()), x)


def test_activations_of_their_papers() -> None:
    x = torch.tensor([[1.0, 5.0, -2.0, 0.0, 3.0, -1.0, -5.0, -2.0, -3.0, -4.0]])
    assert Maxout(5)(x).tolist() == [[5.0, -1.0]]
    v = torch.linspace(-4, 4, 9)
    torch.testing.assert_close(SmoothELU()(v), torch.nn.functional.softplus(2 * v + 2) / 2 - 1)
    assert float(SmoothELU()(torch.tensor(-50.0))) == -1 and abs(float(SmoothELU()(torch.tensor(9.0))) - 9) < 1e-4
