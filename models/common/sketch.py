"""A count-sketch: many numbers in few, distances kept on average, and no stored matrix.

Charikar, Chen, Farach-Colton, "Finding Frequent Items in Data Streams", 2002; as a random projection: Weinberger et
al., "Feature Hashing for Large Scale Multitask Learning", 2009. Entry b of the sketch of x is the sum of s(i) x_i over
the positions i with i mod k = b, the signs s(i) independent and as often -1 as +1: E |sketch(x)|^2 = |x|^2, and the
deviation of |sketch(x)|^2 is at most about sqrt(2 / k) of it. Positions that lie next to each other never share an
entry; the signs come from a hash of the position, computed again each time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

PIECE = 1 << 20
"""Positions whose signs are held at once."""
MULTIPLIERS = (-7046029254386353131, -4658895280553007687)
"""Odd: splitmix64's increment and first multiplier, 0x9E3779B97F4A7C15 and 0xBF58476D1CE4E5B9, as signed numbers."""


def signs(first: int, count: int, seed: int, device: torch.device | str = "cpu") -> Float[Tensor, " n"]:
    """-1 or 1 for positions first ... first + count - 1: integer arithmetic modulo 2^64, the same on every device."""
    z = torch.arange(first + 1, first + 1 + count, device=device) * MULTIPLIERS[0] + seed
    for multiplier in MULTIPLIERS:
        z = (z ^ (z >> 29)) * multiplier
    return ((z >> 62) & 1).float() * 2 - 1


def count_sketch(x: Float[Tensor, "b ..."], k: int, seed: int = 0) -> Float[Tensor, "b k"]:
    """The sketches of the rows of x, each flattened."""
    flat = x.flatten(1)
    total = flat.new_zeros(len(flat), k)
    step = max(PIECE // k, 1) * k
    for start in range(0, flat.shape[1], step):
        part = flat[:, start : start + step]
        part = part * signs(start, part.shape[1], seed, x.device).to(x.dtype)
        total += F.pad(part, (0, -part.shape[1] % k)).view(len(flat), -1, k).sum(1)
    return total
