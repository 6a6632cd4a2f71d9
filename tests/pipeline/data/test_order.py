"""Which samples stand on a sheet: not blank, of as many labels as there is room for, the same each time."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.data.images import Images
from pipeline.data.order import picks, rows_for_sheets
from pipeline.data.tensors import is_blank

LABELS = ["sky"] * 40 + ["cat"] * 10 + ["cup"] * 3 + ["map"] * 47


def none(_: int) -> bool:
    return False


def test_rows_cover_the_labels_in_turn() -> None:
    for count, most in ((4, 1), (6, 2), (8, 2)):
        rows = rows_for_sheets(count, LABELS, none)
        assert rows == sorted(set(rows)) and len(rows) == count
        found = [sum(LABELS[r] == label for r in rows) for label in ("sky", "cat", "cup", "map")]
        assert max(found) == most and min(found) >= most - 1, found


def test_rows_of_one_label_are_those_of_figures() -> None:
    assert rows_for_sheets(5, [None] * 30, none) == picks(30, 5)


def test_blank_samples_are_passed_over_and_few_are_asked_for() -> None:
    asked: list[int] = []

    def blank(position: int) -> bool:
        asked.append(position)
        return position % 4 != 0

    rows = rows_for_sheets(8, LABELS, blank)
    assert len(rows) == 8 and all(r % 4 == 0 for r in rows)
    assert len(asked) == len(set(asked)) < 60
    assert rows == rows_for_sheets(8, LABELS, blank)


def test_a_label_of_blanks_alone_is_left_out_until_nothing_else_is_there() -> None:
    def blank(position: int) -> bool:
        return LABELS[position] != "cup"

    rows = rows_for_sheets(3, LABELS, blank)
    assert [LABELS[r] for r in rows] == ["cup"] * 3
    rows = rows_for_sheets(5, LABELS, blank)
    assert len(set(rows)) == 5 and {50, 51, 52} < set(rows)
    assert len(rows_for_sheets(500, LABELS, blank)) == len(LABELS)
    asked: list[int] = []
    rows_for_sheets(3, LABELS, lambda i: bool(asked.append(i) or blank(i)), tries=5)
    assert len(asked) == 3 * 5 + 3  # not the whole data set


@pytest.mark.parametrize(
    ("pixels", "blank"),
    [
        (np.full((32, 32), 200), True),
        (np.linspace(0, 15, 1024).reshape(32, 32), True),  # within 8 of its median: a plain sky
        (np.linspace(0, 30, 1024).reshape(32, 32), False),
        (np.where(np.arange(1024).reshape(32, 32) < 46, 0, 255), True),  # 4.5 % of ink
        (np.where(np.arange(1024).reshape(32, 32) < 56, 0, 255), False),  # 5.5 %
    ],
)
def test_blank_pictures(pixels: np.ndarray, blank: bool) -> None:
    assert is_blank(np.repeat(pixels.astype(np.uint8)[..., None], 3, 2)) is blank


def test_label_maps_are_blank_by_their_ids_and_not_by_how_near_these_lie() -> None:
    ids = np.zeros((10, 10), np.uint8)
    ids[:1] = 1  # one grey level apart, another class: 10 %
    assert not is_blank(ids)
    ids[:1, :5] = 0
    assert is_blank(ids)


def test_a_data_set_s_rows_are_judged_by_its_inputs() -> None:
    """Inputs are blank where targets are not; without inputs the target counts."""

    class Data:
        labels, fields = [str(i % 3) for i in range(30)], dict.fromkeys(("target", "input"))

        def image(self, position: int, field: str) -> np.ndarray:
            drawn = (position % 2 == 0) == (field == "input")
            step = np.arange(256).reshape(16, 16, 1).repeat(3, 2) * drawn
            return step.astype(np.uint8)

        value = image

    data = Data()
    data.fields = dict.fromkeys(data.fields, SimpleNamespace(kind="image"))
    assert all(r % 2 == 0 for r in Images(data).rows_for_sheets(9, (16, 16)))  # type: ignore[arg-type]
    del data.fields["input"]
    assert all(r % 2 == 1 for r in Images(data).rows_for_sheets(9, (16, 16)))  # type: ignore[arg-type]
