"""Pictures of points and of the critic over the plane, and walks between latents."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CLOUD = 1000
"""Points of one picture."""
REACH = 1.5
"""The picture's half side, in largest coordinates of the points that it is fitted to."""


def reach(points: Tensor) -> float:
    """Half the side of the square around the origin that shows the points."""
    return max(float(points.abs().max()) * REACH, 1e-6)


def clouds(points: Tensor, size: int, near: Tensor | None = None) -> Tensor:
    """`B N 2` -> `B 3 size size` in [-1, 1]: white, the points dark; y upwards. Those outside are not shown.

    Args:
        near: `M 2`, data points: drawn below in light red, and what the picture's frame is fitted to.
    """
    half = reach(points if near is None else near)
    out = torch.ones(len(points), 3, size, size)
    for picture, cloud in zip(out, points.cpu(), strict=True):
        if near is not None:
            rows, columns = cells(near.cpu(), half, size)
            picture[0, rows, columns], picture[1:, rows, columns] = 1.0, 0.2
        rows, columns = cells(cloud, half, size)
        picture[:, rows, columns] = torch.tensor([-0.8, -0.8, 0.2])[:, None]
    return out


def cells(points: Tensor, half: float, size: int) -> tuple[Tensor, Tensor]:
    """(rows, columns) of the points that lie within the picture."""
    inside = points[(points.abs() < half).all(1)]
    cells = ((inside / half + 1) / 2 * size).long().clamp(0, size - 1)
    return size - 1 - cells[:, 1], cells[:, 0]


def surface(value: Callable[[Tensor], Tensor], size: int, near: Tensor) -> Tensor:
    """`1 3 size size` in [-1, 1]: a function over the square of `clouds(near)`, lowest dark, highest light."""
    half = reach(near)
    places = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(places.flip(0), places, indexing="ij")
    grid = torch.stack([x, y], -1).view(-1, 2) * half
    values = value(grid.to(near)).view(1, 1, size, size).float().cpu()
    low, high = values.min(), values.max()
    return ((values - low) / (high - low).clamp(min=1e-12) * 2 - 1).expand(-1, 3, -1, -1)


def between(a: Tensor, b: Tensor, share: float, normal: bool) -> Tensor:
    """From latents `a` to `b`; for N(0, 1) of the length that such latents have: cos and sin of the angle, whose
    squares add up to 1."""
    if not normal:
        return a + share * (b - a)
    angle = torch.tensor(share * torch.pi / 2)
    return angle.cos() * a + angle.sin() * b
