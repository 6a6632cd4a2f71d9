"""The perceptual loss against a plain loop; where its gradients go; its rescaling."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.common.perceptual import Perceptual, gradient_ratio
from models.common.seeds import seeded
from models.common.vgg import VGG

LAYERS = ("relu1_1", "relu2_1")


def pictures(seed: int, count: int = 3) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=seeded(seed)) * 2 - 1


def loss(factors: tuple[float, ...] = (0.5, 2.0)) -> Perceptual:
    return Perceptual(VGG("vgg19", LAYERS).random(0), LAYERS, factors)


def test_against_a_loop() -> None:
    x, y = pictures(0), pictures(1)
    vgg = VGG("vgg19", LAYERS).random(0)
    wanted = 0.0
    for factor, layer in zip((0.5, 2.0), LAYERS, strict=True):
        a, b = vgg(x)[layer].double().reshape(-1), vgg(y)[layer].double().reshape(-1)
        wanted += factor * sum((p - q) ** 2 for p, q in zip(a.tolist(), b.tolist(), strict=True)) / len(a)
    assert float(loss()(x, y)) == pytest.approx(wanted, rel=1e-5)
    assert float(loss()(x, x)) == 0


def test_differences_are_squared_in_full_precision_under_autocast() -> None:
    x, y = pictures(0), pictures(1)
    with torch.autocast("cpu", torch.bfloat16):
        vgg = loss().vgg
        features = [(vgg(x)[layer], vgg(y)[layer]) for layer in LAYERS]
        found = loss().distances(x, y)
    assert features[0][0].dtype == torch.bfloat16 and found.dtype == torch.float32
    wanted = torch.stack([(a.double() - b.double()).square().mean((1, 2, 3)) for a, b in features], 1)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=0)


def check_gradients(perceptual: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Against finite differences at one pixel: a loss whose features are detached has no gradient at all."""
    x, y = pictures(0).requires_grad_(), pictures(1)
    total = perceptual(x, y)
    assert total.requires_grad
    (grad,) = torch.autograd.grad(total, x)
    step = torch.zeros_like(x)
    step[0, 1, 5, 7] = 1e-2
    slope = float(perceptual(x.detach() + step, y) - perceptual(x.detach() - step, y)) / 2e-2
    assert abs(slope) > 1e-5 and float(grad[0, 1, 5, 7]) == pytest.approx(slope, rel=0.05)


def test_gradients_reach_the_picture_and_nothing_else() -> None:
    perceptual = loss()
    check_gradients(perceptual)
    x, y = pictures(0).requires_grad_(), pictures(1).requires_grad_()
    perceptual(x, y).backward()
    assert x.grad is not None and y.grad is None
    assert not any(p.requires_grad for p in perceptual._beside[0].parameters())


def test_the_check_sees_detached_features() -> None:
    perceptual = loss()
    with pytest.raises(AssertionError):
        check_gradients(lambda x, y: perceptual(x.detach(), y))


def test_rescaling_gives_each_layer_the_stated_value() -> None:
    perceptual = loss((0.0, 0.0))
    assert not perceptual.calibrated and not loss((0.0, 2.0)).calibrated
    x, y = pictures(0, 6), pictures(1, 6)
    distances = perceptual.distances(x, y)
    perceptual.calibrate(distances, 50.0)
    assert perceptual.calibrated
    for i in range(len(LAYERS)):
        assert float((distances[:, i] * perceptual.factors[i]).mean()) == pytest.approx(50, rel=1e-5)
    assert float(perceptual(x, y)) == pytest.approx(100, rel=1e-5)
    assert perceptual.named_factors() == dict(zip(LAYERS, perceptual.factors.tolist(), strict=True))
    with pytest.raises(ValueError, match="do not differ in relu1_1, relu2_1"):
        perceptual.calibrate(perceptual.distances(x, x), 50.0)


def test_the_network_is_no_part_of_the_state_but_follows_moves() -> None:
    perceptual = loss().double()
    assert list(perceptual.state_dict()) == ["factors"]
    assert perceptual(pictures(0).double(), pictures(1).double()).dtype == torch.float64


def test_without_a_network() -> None:
    with pytest.raises(ValueError, match="pass one to build"):
        Perceptual(None, LAYERS, (1, 1))(pictures(0), pictures(1))


def test_gradient_ratio() -> None:
    assert float(gradient_ratio(torch.full((2, 2), 3.0), torch.ones(2, 2))) == pytest.approx(3)
    assert bool(torch.isfinite(gradient_ratio(torch.ones(2), torch.zeros(2))))


def test_absolute_differences_on_unprepared_pictures() -> None:
    """pix2pixHD's: L1 means, RGB in [-1, 1] as it is."""
    factors = (1 / 32, 1.0)
    vgg = VGG("vgg19", LAYERS, "none").random(0)
    x, y = pictures(0), pictures(1)
    wanted = 0.0
    weights = vgg.features[0].weight
    first = [torch.relu(torch.nn.functional.conv2d(p, weights, padding=1)) for p in (x, y)]  # random() has no biases
    torch.testing.assert_close(vgg(x)["relu1_1"], first[0])
    for factor, layer in zip(factors, LAYERS, strict=True):
        a, b = vgg(x)[layer].double().reshape(-1), vgg(y)[layer].double().reshape(-1)
        wanted += factor * sum(abs(p - q) for p, q in zip(a.tolist(), b.tolist(), strict=True)) / len(a)
    assert float(Perceptual(vgg, LAYERS, factors, torch.abs)(x, y)) == pytest.approx(wanted, rel=1e-5)
