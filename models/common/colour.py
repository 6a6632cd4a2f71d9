"""CIE L*a*b* of sRGB pictures (white point D65, 2 degrees), for colourisation: L in, a and b out.

sRGB's curve: IEC 61966-2-1; Lab: ISO/CIE 11664-4.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
"""Linear RGB -> XYZ (ITU-R BT.709 primaries)."""
FROM_XYZ = tuple(map(tuple, np.linalg.inv(TO_XYZ).tolist()))
WHITE = (0.95047, 1.0, 1.08883)
EDGE = (6 / 29) ** 3
"""Below this share of white the cube root is continued by a line."""
L_HALF, AB_MOST = 50.0, 110.0
"""L / 50 - 1 and (a, b) / 110 are what the networks see (pix2pix's code)."""


def rgb_to_lab(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """RGB in [-1, 1] -> L in [0, 100], a and b in about [-110, 110]."""
    x = (x + 1) / 2
    linear = torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("ij,bjhw->bihw", _matrix(TO_XYZ, x), linear) / _column(WHITE, x)
    f = torch.where(xyz > EDGE, xyz.clamp_min(EDGE) ** (1 / 3), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    fx, fy, fz = f.unbind(1)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], 1)


def lab_to_rgb(lab: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """The inverse; colours that sRGB cannot show are clamped to [-1, 1]."""
    lightness, a, b = lab.unbind(1)
    fy = (lightness + 16) / 116
    f = torch.stack([fy + a / 500, fy, fy - b / 200], 1)
    xyz = torch.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _column(WHITE, lab)
    linear = torch.einsum("ij,bjhw->bihw", _matrix(FROM_XYZ, lab), xyz).clamp(0, 1)
    x = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)
    return x.clamp(0, 1) * 2 - 1


def split(x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b 2 h w"]]:
    """RGB in [-1, 1] -> (L / 50 - 1, (a, b) / 110)."""
    lab = rgb_to_lab(x)
    return lab[:, :1] / L_HALF - 1, lab[:, 1:] / AB_MOST


def join(lightness: Float[Tensor, "b 1 h w"], ab: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 3 h w"]:
    """The inverse of `split`."""
    return lab_to_rgb(torch.cat([(lightness + 1) * L_HALF, ab * AB_MOST], 1))


def _matrix(rows: tuple[tuple[float, ...], ...], like: Tensor) -> Float[Tensor, "3 3"]:
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def _column(values: tuple[float, ...], like: Tensor) -> Float[Tensor, "1 3 1 1"]:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, 3, 1, 1)
