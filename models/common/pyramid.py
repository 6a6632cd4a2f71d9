"""Image pyramids by average pooling."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def halve(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """Mean of 3 x 3 neighbours at every second pixel; at the border, of those that are there. Sides ceil(n / 2)."""
    return F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)


def pyramid(x: Float[Tensor, "b c h w"], levels: int) -> list[Tensor]:
    """x, its half, its quarter, ...: `levels` pictures, finest first."""
    found = [x]
    while len(found) < levels:
        found.append(halve(found[-1]))
    return found
