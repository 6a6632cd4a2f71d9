"""Exact nearest and furthest rows: float32 products nominate, float64 differences decide.

With centred vectors x, y of squared norms a, b the distance is a + b - 2 x.y. In float32, summed over chunks of CHUNK
numbers, the product's error is at most gamma_n |x| |y| with n = CHUNK + number of chunks, whatever order the library
sums in (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1); |x| |y| <= (a + b) / 2, and the
norms are summed in runs of RUN, the roundings of centring and sums are a few units in the last place of a + b. So the
true distance lies within (numbers of which nothing underflows; `least` covers the others)

    a + b - 2 x.y -+ kappa (a + b),    kappa = gamma_n + gamma_RUN + 16 u,    gamma_n = n u / (1 - n u),    u = 2^-24.

A row that can be among the k nearest has a lower bound not above the k-th smallest upper bound. The rows that pass are
recomputed as direct float64 differences in a fixed order: the lists depend on the vectors alone.

A GPU's matrix units take shorter numbers (`KINDS`). With the rows rounded to the nearest of those by at most r |x| in
norm, x.y differs from the product of the rounded rows by at most (2 r + r^2) |x| |y|, which adds 2 r + r^2 to kappa.
These units sum in float32 but cut off what does not fit where terms are aligned, rather than round it: at most
(m + 2) 2^-23 of the sum of the magnitudes for each m terms, m >= 4 (Fasi, Higham, Mikaitis, Pranesh, "Numerical
behavior of NVIDIA tensor cores", PeerJ Computer Science 7, 2021), which n units of 2^-22 cover; `trusted` looks.

`match` writes the lower bound as a product of its own, [-2x, 1, |x|] . [y, (1 - 2 kappa) b, -2 kappa |y|] + a, so that
nothing but the products passes over the scores. Its errors that grow with x alone are those of a and of the last sum,
not the product's: queries far from the pool keep narrow bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

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
CUT = 2.0**-22
"""The same of a sum within a GPU's matrix units."""
LARGEST = 1e18
"""Norm of a centred row at most: float32 holds its square."""

Kind = Literal["fp32", "tf32", "bf16"]
KINDS: dict[Kind, float] = {"fp32": 0.0, "tf32": 2.0**-11, "bf16": 2.0**-8}
"""Numbers that products are taken of -> r, the largest relative rounding of one."""

Array = np.ndarray


def least(dimension: int) -> float:
    """What may underflow in a + b - 2 x.y: to be added to kappa (a + b)."""
    return 4 * (dimension + 2) * float(np.finfo(np.float32).tiny)


def kappa(dimension: int, unit: float = UNIT, kind: Kind = "fp32") -> float:
    """Half the width of the bounds, relative to a + b, where sums round by `unit`, those of other kinds than float32 by
    `CUT`. Twice the 16 units there: what is subnormal loses more than r of itself, but less than a unit of the row."""
    n = min(CHUNK, dimension) + -(-dimension // CHUNK)
    if kind == "fp32":
        return sum(m * unit / (1 - m * unit) for m in (n, RUN)) + 16 * unit
    r = KINDS[kind]
    return n * CUT / (1 - n * CUT) * (1 + r) ** 2 + 2 * r + r * r + RUN * unit / (1 - RUN * unit) + 32 * unit


def squared_norms(x: Array | Tensor) -> Array:
    """float32 n D -> float64 n."""
    x = torch.as_tensor(x)
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for start in range(0, x.shape[1], RUN):
        total += x[:, start : start + RUN].square().sum(1).double()
    return total.cpu().numpy()


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


def inner(a: Tensor, b: Tensor, out: Tensor | None = None, kind: Kind = "fp32") -> Tensor:
    """The same of tensors on one device, `rounded` to `kind`: float32."""
    if kind == "bf16":
        return _inner_bf16(a, b)
    with rounding(kind):
        total = torch.mm(a[:, :CHUNK], b[:, :CHUNK].T, out=out)
        for start in range(CHUNK, a.shape[1], CHUNK):
            total.addmm_(a[:, start : start + CHUNK], b[:, start : start + CHUNK].T)
    return total


def _inner_bf16(a: Tensor, b: Tensor) -> Tensor:
    """Sums stay float32: torch's usual product of bfloat16 rounds them to bfloat16. The CPU has no other."""
    if a.device.type == "cpu":
        return inner(a.float(), b.float())
    total = torch.mm(a[:, :CHUNK], b[:, :CHUNK].T, out_dtype=torch.float32)
    for start in range(CHUNK, a.shape[1], CHUNK):
        total = torch.addmm(total, a[:, start : start + CHUNK], b[:, start : start + CHUNK].T, out_dtype=torch.float32)
    return total


@contextmanager
def rounding(kind: Kind) -> Iterator[None]:
    """Whether a GPU may round the numbers of float32 products to TF32: rows of that kind are rounded already."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def rounded(x: Tensor, kind: Kind) -> Tensor:
    """float32, finite -> the nearest numbers of a kind, ties to even: `x` itself, changed, or for `bf16` bfloat16."""
    if kind == "bf16":
        return x.to(torch.bfloat16)
    if kind == "tf32":
        for start in range(0, len(x), CHUNK):  # some rows at a time: no second block is held
            bits = x[start : start + CHUNK].view(torch.int32)
            bits.add_((bits >> 13).bitwise_and_(1).add_(0xFFF)).bitwise_and_(-0x2000)
    return x


def trusted(device: torch.device, kind: Kind) -> None:
    """See that the products of a device are within their bounds: on rows whose sums only grow, and on rows all of whose
    numbers would lose the most if the device rounded them to TF32 or bfloat16.

    Raises:
        RuntimeError: they are not.
    """
    generator = torch.Generator().manual_seed(0)
    worst = torch.tensor([1 + r - 2.0**-20 for r in KINDS.values()]).repeat_interleave(8)[:, None].expand(-1, CHUNK)
    x, y = (rounded(torch.cat([1 + torch.rand(64, CHUNK, generator=generator), worst]), kind) for _ in range(2))
    exactly = x.double() @ y.double().T
    found = inner(x.to(device), y.to(device), kind=kind).cpu().double()
    off = float(((found - exactly) / exactly).abs().max())
    if off > CHUNK * (UNIT if kind == "fp32" else CUT):
        raise RuntimeError(f"{device}: products of {kind} are off by {off:.1e}, more than the bounds allow for")


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


def exact(x: Array | Tensor, y: Array | Tensor, rows: Array, columns: Array) -> Array:
    """`distances`, 1 MB of differences at a time; of tensors on their device, where they have the same bits."""
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return _exact_on_device(x, y, rows, columns)
    assert isinstance(x, np.ndarray) and isinstance(y, np.ndarray)
    count = max(1, (1 << 17) // max(1, min(PIECE, x.shape[1])))
    parts = range(0, len(rows), count)
    return np.concatenate([np.empty(0), *(distances(x, y, rows[p : p + count], columns[p : p + count]) for p in parts)])


def _exact_on_device(x: Tensor, y: Tensor, rows: Array, columns: Array) -> Array:
    found, count = np.empty(len(rows)), max(1, (1 << 26) // max(1, min(PIECE, x.shape[1])))
    for first in range(0, len(rows), count):
        some = slice(first, first + count)
        i, j = (torch.from_numpy(np.asarray(v[some], np.int64)).to(x.device) for v in (rows, columns))
        total = torch.zeros(len(i), dtype=torch.float64, device=x.device)
        for start in range(0, x.shape[1], PIECE):
            piece = slice(start, start + PIECE)
            difference = y[:, piece].index_select(0, j).double().sub_(x[:, piece].index_select(0, i).double())
            total += ordered_sum(difference.mul_(difference))  # two operations: a fused one would round once
        found[some] = total.cpu().numpy()
    return found


def ordered_sum(x: Tensor) -> Tensor:
    """float64 P n, contiguous -> P: the sums of the rows in the order in which numpy adds them, so the same bits. It
    halves what is longer than 128, at a multiple of 8, and adds runs of 8 lane by lane."""
    n = x.shape[1]
    if n > 128:
        half = n // 2 - n // 2 % 8
        if 2 * half == n:
            both = ordered_sum(x.reshape(-1, half)).view(-1, 2)
            return both[:, 0] + both[:, 1]
        return ordered_sum(x[:, :half].contiguous()) + ordered_sum(x[:, half:].contiguous())
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    if n >= 8:
        lanes = x[:, : n - n % 8].view(len(x), -1, 8)
        total = lanes[:, 0]
        for i in range(1, lanes.shape[1]):
            total = total + lanes[:, i]
        for _ in range(3):
            total = total[..., 0::2] + total[..., 1::2]
        total = total[:, 0]
    for i in range(n - n % 8, n):
        total = total + x[:, i]
    return total
