"""Parts of sheets: colours stand where the numbers say."""

import numpy as np

from pipeline.tracking import drawn


def _like(page: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    """bool `H W`: pixels of this colour."""
    return np.asarray((page == np.array(colour, np.uint8)).all(-1))


def test_the_word_with_the_largest_weight_is_the_brightest() -> None:
    page = drawn.text(["left", "right"], 120, [0.9, 0.3])
    full, part = tuple(drawn.LIGHT.tolist()), tuple(np.round(255 + (drawn.LIGHT - 255) / 3).astype(int).tolist())
    first, second = _like(page, full), _like(page, part)
    assert first.sum() > 200 and second.sum() > 200
    assert np.nonzero(first)[1].max() < np.nonzero(second)[1].min()


def test_words_are_broken_into_lines_and_stay_inside() -> None:
    page = drawn.text(["several", "words", "that", "need", "lines"], 80)
    ink = np.nonzero((page < 128).any(-1))
    assert page.shape == (80, 80, 3) and ink[0].max() - ink[0].min() > 30 and ink[1].max() < 80
    assert drawn.text([], 40).min() == 255


def test_frames_are_green_where_it_is_right() -> None:
    picture = np.zeros((64, 48, 3), np.uint8)
    for right, colour in ((True, drawn.RIGHT), (False, drawn.WRONG)):
        found = drawn.framed(picture, right)
        assert _like(found, colour).sum() == 64 * 48 - 60 * 44 and not found[2:-2, 2:-2].any()
    assert not picture.any()


def test_a_matrix_is_shaded_by_the_share_of_the_row() -> None:
    cell = 44
    page = np.asarray(drawn.matrix(np.array([[3, 0], [1, 1]]), ["a", "b"], "title", cell))
    right, wrong = _like(page, drawn.RIGHT), _like(page, drawn.WRONG)
    assert 0.5 * cell**2 < right.sum() < cell**2 and not wrong.any()  # row a is all right; half shades elsewhere
    half = tuple(np.round(255 + (np.array(drawn.WRONG) - 255) / 2).astype(int).tolist())
    below = _like(page, half)
    assert below.sum() > 0.5 * cell**2
    assert np.nonzero(below)[0].min() > np.nonzero(right)[0].max()
    assert abs(np.nonzero(below)[1].min() - np.nonzero(right)[1].min()) < 3  # the same column: said a
