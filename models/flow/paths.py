"""Straight paths from noise to data and their velocity (Lipman et al., "Flow Matching for Generative Modeling"; Liu et
al., "Flow Straight and Fast"; both ICLR 2023), and the solvers that follow a velocity from noise to a picture."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""`velocity(x, t)`: x `b ...`, t `b` in [0, 1], the same shape as x."""


def between(noise: Tensor, data: Tensor, t: Float[Tensor, " b"]) -> tuple[Tensor, Tensor]:
    """(x_t, its velocity) on the straight path: x_t = (1 - t) x_0 + t x_1 and x_1 - x_0 (Liu et al., section 2.1;
    Lipman et al., equation 22 with sigma_min = 0)."""
    time = t.view(-1, *[1] * (data.ndim - 1))
    return (1 - time) * noise + time * data, data - noise


def matching_loss(velocity: Velocity, noise: Tensor, data: Tensor, t: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    """mean((v(x_t, t) - (x_1 - x_0))^2): conditional flow matching (Lipman et al., equation 9)."""
    x, wanted = between(noise, data, t)
    return (velocity(x, t) - wanted).square().mean()


def euler(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """x <- x + v(x, t) / steps, from t = 0 to 1: error O(1 / steps), one evaluation a step."""
    x = noise
    for i in range(steps):
        x = x + velocity(x, x.new_full((len(x),), i / steps)) / steps
    return x


def heun(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """Euler's step, corrected by the mean of the velocities at its ends: error O(1 / steps^2), two evaluations."""
    x = noise
    for i in range(steps):
        first = velocity(x, x.new_full((len(x),), i / steps))
        second = velocity(x + first / steps, x.new_full((len(x),), (i + 1) / steps))
        x = x + (first + second) / (2 * steps)
    return x


SOLVERS: dict[str, Callable[[Velocity, Tensor, int], Tensor]] = {"heun": heun, "euler": euler}


def straightness(velocity: Velocity, noise: Tensor, steps: int) -> Float[Tensor, ""]:
    """Mean over rows, entries and time of (x_1 - x_0 - v(x_t, t))^2 along Euler's paths: 0 where they are straight, and
    one step is as good as many (Liu et al., section 2.2)."""
    x, seen = noise, []
    for i in range(steps):
        seen.append(velocity(x, x.new_full((len(x),), i / steps)))
        x = x + seen[-1] / steps
    return torch.stack([(x - noise - v).square().mean() for v in seen]).mean()
