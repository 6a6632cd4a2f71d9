"""Exact nearest and furthest rows: float32 products nominate, float64 differences decide.

With centred vectors x, y of squared norms a, b the distance is a + b - 2 x.y. In float32, summed over chunks of CHUNK
numbers, the product's error is at most gamma_n |x| |y| with n = CHUNK + number of chunks, whatever order the library
sums in (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1); |x| |y| <= (a + b) / 2, and the
norms are summed in runs of RUN, the roundings of centring and sums are a few units in the last place of a + b. So the
true distance lies within (numbers of which nothing underflows; `least` covers the others)

    a + b - 2 x.y -+ kappa (a + b),    kappa = gamma_n + gamma_RUN + 16 u,    gamma_n = n u / (1 - n u),    u = 2^-24.

A row that can be among the k nearest has a lower bound not above the k-th smallest upper bound. The rows that pass are
recomputed as direct float64 differences in a fixed order: the lists depend on the vectors alone.

`match` writes the lower bound as a product of its own, [-2x, 1, |x|] . [y, (1 - 2 kappa) b, -2 kappa |y|] + a, so that
nothing but the products passes over the scores. Its errors that grow with x alone are those of a and of the last sum,
not the product's: queries far from the pool keep narrow bounds.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

CHUNK = 4096
"""Numbers that one float32 product sums: shorter ones narrow the bounds and slow the products."""
RUN = 256
"""Numbers that one float32 sum of squares takes."""
PIECE = 4096
"""Numbers that one float64 sum of squared differences takes; part of the fixed order."""
UNIT = 2.0**-24
"""Largest relative rounding of float32."""
LARGEST = 1e18
"""Norm of a centred row at most: float32 holds its square."""

Array = np.ndarray


def least(dimension: int) -> float:
    """What may underflow in a + b - 2 x.y: to be added to kappa (a + b)."""
    return 4 * (dimension + 2) * float(np.finfo(np.float32).tiny)


def kappa(dimension: int, unit: float = UNIT) -> float:
    """Half the width of the bounds, relative to a + b, where the sums round by `unit`."""
    n = min(CHUNK, dimension) + -(-dimension // CHUNK)
    return sum(m * unit / (1 - m * unit) for m in (n, RUN)) + 16 * unit


def squared_norms(x: Array) -> Array:
    """float32 n D -> float64 n."""
    total = torch.zeros(len(x), dtype=torch.float64)
    for start in range(0, x.shape[1], RUN):
        total += torch.from_numpy(x)[:, start : start + RUN].square().sum(1).double()
    return total.numpy()


def must_be_finite(squares: Array, folder: str) -> None:
    """Raises ValueError where a squared norm is not a number that the searches can work with."""
    if not (squares <= LARGEST**2).all():
        raise ValueError(f"{folder}: a vector is not finite, or over {LARGEST:g} long; describe the images again")


def products(x: Array, y: Array, rows: Array | None = None, out: Tensor | None = None) -> Array:
    """n D, m D of one precision -> n m: x y^T, summed chunk by chunk, in `out` if given. `rows`: of these of x only."""
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    if rows is not None:
        a = a[torch.from_numpy(rows)]
    return inner(a, b, out).numpy()


def inner(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """The same of tensors on one device. A GPU must not round to TF32 (torch's default): the bounds are float32's."""
    total = torch.mm(a[:, :CHUNK], b[:, :CHUNK].T, out=out)
    for start in range(CHUNK, a.shape[1], CHUNK):
        total.addmm_(a[:, start : start + CHUNK], b[:, start : start + CHUNK].T)
    return total


def distances(x: Array, y: Array, rows: Array, columns: Array) -> Array:
    """Squared Euclidean distances of x[rows[i]], y[columns[i]]: float64 differences, each pair's summed piece by piece
    in order, so that they do not depend on which pairs are taken together."""
    total, room = np.zeros(len(rows)), np.empty(len(rows) * min(PIECE, x.shape[1]))
    for start in range(0, x.shape[1], PIECE):
        a, b = y[columns, start : start + PIECE], x[rows, start : start + PIECE]
        difference = np.subtract(a, b, out=room[: a.size].reshape(a.shape), dtype=np.float64)
        np.multiply(difference, difference, out=difference)
        total += difference.sum(axis=1)
    return total


def exact(x: Array, y: Array, rows: Array, columns: Array) -> Array:
    """`distances`, 1 MB of differences at a time."""
    count = max(1, (1 << 17) // max(1, min(PIECE, x.shape[1])))
    parts = range(0, len(rows), count)
    return np.concatenate([np.empty(0), *(distances(x, y, rows[p : p + count], columns[p : p + count]) for p in parts)])
