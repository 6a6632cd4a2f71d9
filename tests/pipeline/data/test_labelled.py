"""Sets with classes of which some labels are kept."""

import pytest

from tests.pipeline.data import test_idx
from tests.pipeline.data.test_idx import opened

npz = test_idx.npz


def test_so_many_labels_of_each_class_are_kept(npz: str) -> None:
    made = {seed: opened("idx", npz, held_out=10, labelled=2, seed=seed).samples() for seed in (0, 1)}
    for listed in made.values():
        classes = [int(e.files["class"]) for e in listed["train"]]
        assert [classes.count(c) for c in range(10)] == [2] * 10 and classes.count(-1) == 30
        assert all(int(e.files["class"]) >= 0 for e in listed["val"] + listed["test"])
        assert all(c in (-1, i % 10) for i, c in enumerate(classes))
    assert made[0]["train"] != made[1]["train"]
    assert made[0] == opened("idx", npz, held_out=10, labelled=2).samples()
    with pytest.raises(ValueError, match="--option labelled 9: class 0 has 5 training samples"):
        opened("idx", npz, held_out=10, labelled=9).samples()
    with pytest.raises(ValueError, match="--option held_out 60: of 60 training samples"):
        opened("idx", npz, held_out=60)
