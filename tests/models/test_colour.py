"""Lab against known colours, closed forms and scikit-image."""

import numpy as np
import pytest
import skimage.color
import torch

from models.common.colour import join, lab_to_rgb, rgb_to_lab, split
from models.common.seeds import seeded


def one(*rgb: float) -> torch.Tensor:
    return torch.tensor(rgb, dtype=torch.float64).view(1, 3, 1, 1) * 2 - 1


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ],
)
def test_known_colours(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    found = rgb_to_lab(one(*rgb)).flatten().tolist()
    assert found == pytest.approx(lab, abs=0.02)
    assert lab_to_rgb(rgb_to_lab(one(*rgb))).flatten().tolist() == pytest.approx(one(*rgb).flatten().tolist(), abs=1e-6)


@pytest.mark.parametrize("grey", [0.01, 0.03, 0.2, 0.5, 0.9])
def test_greys_by_the_closed_form(grey: float) -> None:
    y = grey / 12.92 if grey <= 0.04045 else ((grey + 0.055) / 1.055) ** 2.4
    wanted = 116 * y ** (1 / 3) - 16 if y > (6 / 29) ** 3 else y * (29 / 3) ** 3
    found = rgb_to_lab(one(grey, grey, grey)).flatten().tolist()
    assert found == pytest.approx([wanted, 0, 0], abs=5e-3)  # the matrix has six digits


def test_random_pictures() -> None:
    x = torch.rand(2, 3, 8, 9, generator=seeded(0), dtype=torch.float64) * 2 - 1
    wanted = skimage.color.rgb2lab(((x + 1) / 2).permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(rgb_to_lab(x).permute(0, 2, 3, 1).numpy(), wanted, atol=1e-4)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(x)), x, rtol=0, atol=1e-9)
    lightness, ab = split(x)
    assert lightness.shape == (2, 1, 8, 9) and ab.shape == (2, 2, 8, 9)
    torch.testing.assert_close(lightness[:, 0], rgb_to_lab(x)[:, 0] / 50 - 1)
    torch.testing.assert_close(ab * 110, rgb_to_lab(x)[:, 1:])
    torch.testing.assert_close(join(lightness, ab), x, rtol=0, atol=1e-9)


def test_colours_beyond_srgb_are_clamped_and_gradients_finite() -> None:
    ab = torch.full((1, 2, 2, 2), 1.0, requires_grad=True)
    out = join(torch.zeros(1, 1, 2, 2), ab)
    assert float(out.detach().abs().max()) <= 1
    out.sum().backward()
    assert ab.grad is not None and bool(torch.isfinite(ab.grad).all())
    black = torch.full((1, 3, 2, 2), -1.0, requires_grad=True)
    rgb_to_lab(black).sum().backward()
    assert black.grad is not None and bool(torch.isfinite(black.grad).all())
