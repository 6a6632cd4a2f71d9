"""VGG: layer table, state dict, preprocessing; Gram matrices against a plain loop."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from models.common import vgg
from models.common.vgg import VGG


def test_layers_are_where_torchvision_has_them() -> None:
    # Indices and widths of torchvision's vgg16 and vgg19 `features`.
    sixteen = {"relu1_1": 0, "relu1_2": 2, "relu2_2": 7, "relu3_3": 14, "relu4_1": 17, "relu5_3": 28}
    nineteen = {"relu1_2": 2, "relu2_1": 5, "relu3_1": 10, "relu3_4": 16, "relu4_1": 19, "relu5_1": 28, "relu5_4": 34}
    assert {k: vgg.table("vgg16")[k][0] for k in sixteen} == sixteen
    assert {k: vgg.table("vgg19")[k][0] for k in nineteen} == nineteen
    assert len(vgg.table("vgg16")) == 13 and len(vgg.table("vgg19")) == 16


@pytest.mark.parametrize(("name", "count"), [("vgg16", 14_714_688), ("vgg19", 20_024_384)])
def test_published_parameter_counts(name: vgg.Name, count: int) -> None:
    # torchvision's counts less the classifier (VGG-16: 138,357,544 - 123,642,856; VGG-19: 143,667,240 - 123,642,856).
    net = VGG(name, [list(vgg.table(name))[-1]])
    assert sum(p.numel() for p in net.parameters()) == count


def test_it_is_only_as_deep_as_needed() -> None:
    net = VGG("vgg19", ("relu1_2", "relu3_1"))
    assert sorted(net.state_dict()) == sorted(f"features.{i}.{n}" for i in (0, 2, 5, 7, 10) for n in ("weight", "bias"))
    assert not any(p.requires_grad for p in net.parameters())


def plain(net: VGG, x: torch.Tensor, pooling: str) -> dict[str, torch.Tensor]:
    """relu1_1, relu1_2, relu2_1 written out."""
    state = net.state_dict()
    conv = lambda x, i: functional.relu(  # noqa: E731
        functional.conv2d(x, state[f"features.{i}.weight"], state[f"features.{i}.bias"], padding=1)
    )
    pool = functional.max_pool2d if pooling == "max" else functional.avg_pool2d
    a = conv(x, 0)
    b = conv(a, 2)
    return {"relu1_1": a, "relu1_2": b, "relu2_1": conv(pool(b, 2), 5)}


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("preprocessing", ["imagenet", "caffe"])
def test_forward_is_the_network_written_out(pooling: vgg.Pooling, preprocessing: vgg.Preprocessing) -> None:
    layers = ("relu2_1", "relu1_1", "relu1_2")
    net = VGG("vgg16", layers, preprocessing, pooling).random(3)
    for key, value in net.state_dict().items():
        if key.endswith("bias"):
            value.copy_(torch.linspace(-1, 1, len(value)))
    image = torch.rand(2, 3, 10, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    if preprocessing == "imagenet":
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = ((image + 1) / 2 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    else:
        x = (image[:, [2, 1, 0]] + 1) / 2 * 255 - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)
    found, wanted = net(image), plain(net, x, pooling)
    assert tuple(found) == layers
    for layer in layers:
        torch.testing.assert_close(found[layer], wanted[layer], rtol=1e-5, atol=1e-5)


def test_gradients_reach_the_image() -> None:
    net = VGG("vgg16", ("relu2_1",)).random(0)
    x = torch.zeros(1, 3, 8, 8, requires_grad=True)
    net(x)["relu2_1"].sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_gram_is_the_mean_product_of_channels() -> None:
    f = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = torch.zeros(2, 3, 3, dtype=torch.float64)
    for b in range(2):
        for i in range(3):
            for j in range(3):
                wanted[b, i, j] = (f[b, i] * f[b, j]).sum() / (3 * 4 * 5)
    torch.testing.assert_close(vgg.gram(f), wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(vgg.gram(f.contiguous(memory_format=torch.channels_last)), wanted, rtol=1e-12, atol=0)


def test_random_weights_are_he_and_seeded_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    a, b = VGG("vgg16", ("relu3_1",)).random(1), VGG("vgg16", ("relu4_1",)).random(1)
    other = VGG("vgg16", ("relu3_1",)).random(2)
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key])  # however deep the network is cut
        assert key.endswith("bias") or not torch.equal(value, other.state_dict()[key])
    deep = a.state_dict()["features.10.weight"]  # 294,912 numbers: the deviation is known to 0.13 %
    assert abs(float(deep.std()) / (2 / (9 * 128)) ** 0.5 - 1) < 0.01


def test_a_short_checkpoint_is_an_error_that_names_what_it_has() -> None:
    state = VGG("vgg19", ("relu3_1",)).random(0).state_dict()
    with pytest.raises(
        ValueError, match=r"lacks features\.12\.weight; it has relu1_1, relu1_2, relu2_1, relu2_2, relu3_1$"
    ):
        VGG("vgg19", ("relu1_2", "relu3_2")).load(state)
    wrong = dict(state)
    wrong["features.5.weight"] = torch.zeros(64, 64, 3, 3)
    with pytest.raises(ValueError, match=r"features\.5\.weight is \(64, 64, 3, 3\).*\(128, 64, 3, 3\)"):
        VGG("vgg19", ("relu3_1",)).load(wrong)
    VGG("vgg19", ("relu1_2",)).load(state)  # deeper ones than needed are left aside


@pytest.mark.parametrize(
    ("name", "layers", "said"),
    [
        ("vgg16", ("relu3_4",), "--layers relu3_4: vgg16 has relu1_1"),
        ("vgg17", ("relu1_1",), "--net vgg17"),
        ("vgg16", (), "at least one"),
        ("vgg16", ("relu1_1", "relu1_1"), "each once"),
    ],
)
def test_unknown_names(name: vgg.Name, layers: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        VGG(name, layers)


@pytest.mark.parametrize(("pools", "side"), [(4, 2), (3, 4), (0, 32)])
def test_poolings_can_be_left_out(pools: int, side: int) -> None:
    """The last ones go first; the names of the state dict stay."""
    net, whole = VGG("vgg16", ("relu1_1", "relu5_1"), pools=pools).random(0), VGG("vgg16", ("relu1_1", "relu5_1"))
    assert net.state_dict().keys() == whole.state_dict().keys()
    found = net(torch.zeros(1, 3, 32, 32))
    assert found["relu5_1"].shape == (1, 512, side, side) and found["relu1_1"].shape[-1] == 32
