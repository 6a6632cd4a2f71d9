"""Sheets are what people judge by: every cell must stand where its names say, and random weights must be loud."""

import numpy as np
import pytest
import torch

from pipeline.data import tensors
from pipeline.tracking import sheets


def _flat(colour: tuple[int, int, int], height: int = 8, width: int = 8) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def _where(page: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    y, x = np.nonzero((page == np.array(colour, np.uint8)).all(-1))
    return int(x.min()), int(y.min()), int(x.max()), int(y.max())


def test_to_uint8_rounds_and_clips() -> None:
    x = torch.tensor([-2.0, -1.0, 0.0, 0.004, 1.0, 3.0]).view(1, 1, 6)
    got = tensors.to_uint8(x)
    assert got.shape == (1, 6, 3)
    assert got.dtype == np.uint8
    assert got[0, :, 0].tolist() == [0, 0, 128, 128, 255, 255]  # 127.5 rounds to even, as numpy and TF do
    assert (got[..., 0] == got[..., 2]).all()


def test_to_uint8_inverts_the_reading_of_an_8_bit_image() -> None:
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 127.5 - 1
    assert np.array_equal(tensors.to_uint8(tensor), image)


def test_to_uint8_refuses_nan_and_wrong_shapes() -> None:
    with pytest.raises(ValueError, match="NaN"):
        tensors.to_uint8(torch.full((3, 2, 2), float("nan")))
    with pytest.raises(ValueError, match="C H W"):
        tensors.to_uint8(torch.zeros(1, 3, 2, 2))


def test_cells_stand_in_reading_order_and_keep_their_aspect() -> None:
    red, green, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    rows = [[_flat(red), _flat(green, 4, 8)], [None, _flat(blue)]]
    page = np.asarray(sheets.sheet(rows, ["first", "second"], ["a", "b"], "title", "weights: real", cell=32))
    r, g, b = (_where(page, c) for c in (red, green, blue))
    assert (r[2] - r[0] + 1, r[3] - r[1] + 1) == (32, 32)
    assert (g[2] - g[0] + 1, g[3] - g[1] + 1) == (32, 16)  # half as high as wide
    assert r[2] < g[0]
    assert g[0] == b[0]
    assert b[1] > r[3]


def test_mosaic_stands_in_reading_order() -> None:
    colours = [(10 * i, 5, 5) for i in range(5)]
    page = sheets.mosaic([_flat(c, 4, 6) for c in colours], 3)
    assert page.shape == (4 * 2 + 1, 6 * 3 + 2, 3)
    for i, colour in enumerate(colours):
        x, y = i % 3 * 7, i // 3 * 5
        assert _where(page, colour) == (x, y, x + 5, y + 3)
    assert (page[5:, 14:] == 255).all() and (page[4] == 255).all()
    with pytest.raises(ValueError, match="images of one size"):
        sheets.mosaic([_flat((0, 0, 0)), _flat((0, 0, 0), 4, 4)], 3)


def test_random_weights_are_loud() -> None:
    def loud(note: str) -> bool:
        page = np.asarray(sheets.sheet([[_flat((0, 0, 0))]], note=note))
        return bool((page == np.array(sheets.LOUD, np.uint8)).all(-1).sum() > 500)

    assert loud("descriptor weights: RANDOM (seed 0)")
    assert not loud("descriptor weights: vgg16 sha256 12ab")


def test_long_names_are_wrapped_within_the_page() -> None:
    name = "a_very_long_name_without_any_space_" * 6
    page = sheets.sheet([[_flat((9, 9, 9))]], [name], [name], name, name, cell=64)
    assert page.width < 400


def test_style_map_places_points_with_y_upwards() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    points = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 5.0]])
    page = np.asarray(sheets.style_map(points, [_flat(c) for c in colours], "map", groups=["x", "x", "y"]))
    a, b, c = (_where(page, colour) for colour in colours)
    assert a[0] < b[0]
    assert a[1] == b[1]
    assert c[1] < a[1]
    assert a[0] == c[0]
    assert (b[0] - a[0]) == pytest.approx(2 * (a[1] - c[1]), abs=2)  # one scale for both axes


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        sheets.sheet([])
    with pytest.raises(ValueError, match="row names"):
        sheets.sheet([[_flat((0, 0, 0))]], ["a", "b"])
    with pytest.raises(ValueError, match="uint8"):
        sheets.sheet([[np.zeros((4, 4, 3))]])
    with pytest.raises(ValueError, match="NaN"):
        sheets.style_map(np.array([[np.nan, 0.0]]), [_flat((0, 0, 0))])
