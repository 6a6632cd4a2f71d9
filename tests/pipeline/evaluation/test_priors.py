"""The baselines without a network."""

import pytest
import torch

from pipeline.evaluation import priors


def test_top_answers() -> None:
    assert priors.top_answers(["no", "yes", "red", "yes", "no", "blue"], 3) == ("no", "yes", "blue")
    with pytest.raises(ValueError, match="no answers"):
        priors.top_answers([], 3)


def test_type_priors() -> None:
    found = priors.type_priors(["how many", "is", "how many", "is", "is"], ["2", "yes", "1", "no", "no"])
    assert found == {"how many": "2", "is": "no"}
    with pytest.raises(ValueError, match="2 question types for 1 answers"):
        priors.type_priors(["is", "is"], ["yes"])


def test_random_answers_are_even() -> None:
    drawn = priors.random_answers(["a", "b", "c"], 3000, torch.Generator().manual_seed(0))
    assert all(abs(drawn.count(answer) - 1000) < 100 for answer in "abc")  # 3.9 deviations


def test_neighbours_answer() -> None:
    assert priors.neighbours_answer(["yes", "no", "no"], [0.9, 0.2, 0.1]) == "no"
    assert priors.neighbours_answer(["yes", "no", "no", "yes"], [0.9, 0.2, 0.1, 0.1]) == "yes"
    assert priors.neighbours_answer(["yes", "no"], [0.5, 0.5]) == "no"
    with pytest.raises(ValueError, match="at least one"):
        priors.neighbours_answer([], [])


def test_nearest_images_compares_directions() -> None:
    known = torch.tensor([[9.0, 0.0], [0.1, 0.1], [0.0, 1.0]])
    found = priors.nearest_images(torch.tensor([[0, 1], [0, 2]]), torch.tensor([[1.0, 1.0], [1.0, 2.0]]), known)
    assert found.tolist() == [1, 2]


def test_bags_are_unit_vectors_of_counts() -> None:
    found = priors.bag([[2, 2, 3], [4]], 5)
    assert found[0].tolist() == pytest.approx([0, 0, 2 / 5**0.5, 1 / 5**0.5, 0])
    assert found[1].tolist() == [0, 0, 0, 0, 1]
