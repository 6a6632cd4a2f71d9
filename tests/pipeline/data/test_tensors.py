"""How a picture becomes a frame: cover, stretch and pad against what each must keep."""

import numpy as np
import pytest

from pipeline.data.tensors import fit


def ramp(height: int, width: int) -> np.ndarray:
    """Ids whose value tells the pixel: row * 100 + column."""
    return np.arange(height)[:, None] * 100 + np.arange(width)[None]


def test_stretch_keeps_every_corner() -> None:
    cut = fit(ramp(10, 30), (8, 8), 1.0, (0.5, 0.5), True, "stretch")
    assert cut.shape == (8, 8)
    assert cut[0, 0] < 101 and cut[-1, -1] >= 900 and cut[-1, -1] % 100 >= 28  # both ends of both sides are there


def test_stretch_then_crop_is_the_jitter_of_pix2pix() -> None:
    """286 of 256: offsets 0 to 30, both inclusive."""
    image = ramp(286, 286)
    corners = {
        int(fit(image, (256, 256), 286 / 256, (t, 0.0), True, "stretch")[0, 0]) // 100
        for t in np.linspace(0, 0.9999, 500)
    }
    assert corners == set(range(31))


@pytest.mark.parametrize("shape", [(10, 30), (30, 10), (3, 9), (8, 8)])
def test_pad_keeps_all_of_the_picture_and_its_aspect(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    image[: shape[0] // 2, : shape[1] // 2] = 255  # a quarter of it
    cut = fit(image, (16, 16), 1.0, (0.5, 0.5), False, "pad")
    assert cut.shape == (16, 16, 3)
    long = max(shape)
    inner = [round(side * 16 / long) for side in shape]
    top, left = (16 - inner[0]) // 2, (16 - inner[1]) // 2
    whole = cut[top : top + inner[0], left : left + inner[1]]
    assert abs(float((whole > 127).mean()) - 0.25) < 0.1
    if left:
        assert (cut[:, left - 1] == cut[:, left]).all()  # the border is mirrored


def test_cover_is_what_it_was() -> None:
    image = ramp(10, 12)
    assert (fit(image, (4, 4), 1.0, (0.5, 0.5), True) == image[3:7, 4:8]).all()
