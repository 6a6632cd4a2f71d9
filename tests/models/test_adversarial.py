"""Games and feature matching against naive loops; each check also fails on the wrong version."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.common.adversarial import (
    GAMES,
    balance,
    discriminator_least_squares,
    feature_matching,
    generator_least_squares,
    least_squares,
)
from models.common.seeds import seeded
from models.step.losses import discriminator_loss, generator_loss

SHAPES = [(2, 1, 4, 4), (2, 1, 2, 2), (2, 1, 1, 3)]


def logits(seed: int) -> list[Tensor]:
    return [torch.randn(*shape, generator=seeded(seed, i), dtype=torch.float64) for i, shape in enumerate(SHAPES)]


def loop(scales: list[Tensor], target: float) -> float:
    total = 0.0
    for scale in scales:
        values = scale.reshape(-1).tolist()
        total += sum((v - target) ** 2 for v in values) / len(values)
    return total


def check_discriminator(loss: Callable[[list[Tensor], list[Tensor]], Tensor], factor: float) -> None:
    real, fake = logits(0), logits(1)
    assert float(loss(real, fake)) == pytest.approx(factor * (loop(real, 1) + loop(fake, 0)), rel=1e-12)


def check_generator(loss: Callable[[list[Tensor]], Tensor], factor: float) -> None:
    fake = logits(1)
    assert float(loss(fake)) == pytest.approx(factor * loop(fake, 1), rel=1e-12)


def test_least_squares_sums_the_scales_means() -> None:
    check_discriminator(discriminator_least_squares, 1.0)
    check_generator(generator_least_squares, 1.0)


def test_step_halves_its_gan_terms() -> None:
    check_discriminator(discriminator_loss, 0.5)
    check_generator(generator_loss, 0.5)


def test_best_answers_cost_nothing() -> None:
    real, fake = [torch.ones(2, 1, 3, 3)], [torch.zeros(2, 1, 3, 3)]
    assert float(discriminator_loss(real, fake)) == 0 and float(discriminator_loss(fake, real)) == 1
    assert float(generator_loss(real)) == 0 and float(generator_loss(fake)) == 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        lambda real, fake: 0.5 * (least_squares(real, 1) + least_squares(fake, 1)),  # D's fake target 1
        lambda real, fake: least_squares(real, 1) + least_squares(fake, 0),  # not halved
        lambda real, fake: 0.5 * (least_squares(real, 1) + least_squares(fake, 0)) / len(SHAPES),  # mean over scales
        lambda real, fake: 0.5 * (least_squares(real, 0) + least_squares(fake, 1)),  # swapped
    ],
)
def test_the_check_sees_wrong_discriminator_losses(wrong: Callable[[list[Tensor], list[Tensor]], Tensor]) -> None:
    with pytest.raises(AssertionError):
        check_discriminator(wrong, 0.5)


@pytest.mark.parametrize("wrong", [lambda fake: least_squares(fake, 1), lambda fake: 0.5 * least_squares(fake, 0)])
def test_the_check_sees_wrong_generator_losses(wrong: Callable[[list[Tensor]], Tensor]) -> None:
    with pytest.raises(AssertionError):
        check_generator(wrong, 0.5)


# The other games and feature matching --------------------------------------------------------------------------------


def entropy(scales: list[Tensor], target: float) -> float:
    total = 0.0
    for scale in scales:
        values = [1 / (1 + math.exp(-v)) for v in scale.reshape(-1).tolist()]
        total += sum(-math.log(p) if target else -math.log(1 - p) for p in values) / len(values)
    return total


def hinge(scales: list[Tensor], sign: int) -> float:
    return sum(sum(max(0.0, 1 - sign * v) for v in s.reshape(-1).tolist()) / s.numel() for s in scales)


def test_games_against_loops() -> None:
    real, fake = logits(0), logits(1)
    wanted = {
        "cgan": (entropy(real, 1) + entropy(fake, 0), entropy(fake, 1)),
        "lsgan": (loop(real, 1) + loop(fake, 0), loop(fake, 1)),
        "hinge": (hinge(real, 1) + hinge(fake, -1), -sum(float(s.mean()) for s in fake)),
    }
    assert wanted.keys() == GAMES.keys()
    for name, (d, g) in wanted.items():
        assert float(GAMES[name].discriminator(real, fake)) == pytest.approx(d, rel=1e-12), name
        assert float(GAMES[name].generator(fake)) == pytest.approx(g, rel=1e-12), name


def test_cross_entropy_is_finite_for_sure_answers_and_a_tensor_is_not_a_list() -> None:
    sure = [torch.full((1, 1, 2, 2), 200.0)]
    assert float(GAMES["cgan"].discriminator(sure, sure)) == pytest.approx(200)
    assert float(GAMES["cgan"].generator([-sure[0]])) == pytest.approx(200)
    batch = torch.zeros(4, 1, 2, 2)  # means over the batch: four pictures cost what one does
    assert float(GAMES["lsgan"].generator([batch])) == 1


def test_feature_matching_against_a_loop() -> None:
    def features(seed: int) -> list[list[Tensor]]:
        shapes = [[(2, 4, 5, 5), (2, 8, 3, 3), (2, 1, 2, 2)], [(2, 4, 3, 3), (2, 8, 2, 2), (2, 1, 1, 1)]]
        return [
            [torch.randn(*shape, generator=seeded(seed, i, j), dtype=torch.float64) for j, shape in enumerate(scale)]
            for i, scale in enumerate(shapes)
        ]

    real, fake = features(0), features(1)
    for tensor in [real[0][0], fake[0][0], fake[0][2]]:
        tensor.requires_grad_()
    total = 0.0
    for ours, theirs in zip(real, fake, strict=True):
        for r, f in list(zip(ours, theirs, strict=True))[:-1]:  # without the logits
            a, b = r.detach().reshape(-1).tolist(), f.detach().reshape(-1).tolist()
            total += sum(abs(x - y) for x, y in zip(a, b, strict=True)) / len(a)
    loss = feature_matching(real, fake)
    assert float(loss.detach()) == pytest.approx(total / 2, rel=1e-12)
    loss.backward()
    assert real[0][0].grad is None and fake[0][0].grad is not None and fake[0][2].grad is None


def test_balance_is_the_share_of_right_logits_each_scale_alike() -> None:
    real, fake = logits(0), logits(1)
    for middle in (0.0, 0.5):
        shares = [[float(v > middle) for v in s.reshape(-1).tolist()] for s in real]
        shares += [[float(v < middle) for v in s.reshape(-1).tolist()] for s in fake]
        wanted = sum(sum(s) / len(s) for s in shares) / len(shares)
        assert float(balance(real, fake, middle)) == pytest.approx(wanted, rel=1e-12)
    assert float(balance([torch.ones(4)], [torch.zeros(2)], 0.5)) == 1
    assert float(balance([torch.full((4,), 0.4)], [torch.full((2,), 0.4)], 0.5)) == 0.5
