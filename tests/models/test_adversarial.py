"""LSGAN against naive loops; each check also fails on the wrong version."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.common.adversarial import discriminator_least_squares, generator_least_squares, least_squares
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
