"""Coloured shapes: the answers are those of the pixels, and the question alone does not give them away."""

from pathlib import Path

import numpy as np
import pytest

from jobs import shard
from pipeline.data.shards import DataSet
from pipeline.data.sources import shapes


def test_answers_of_shapes_can_be_read_off_the_pixels() -> None:
    for number in range(60):
        made = shapes.scene(number, "color")
        top, left, bottom, right = (np.array(made.box) * 64).round().astype(int)
        middle = made.image[(top + bottom) // 2, (left + right) // 2].astype(float)
        nearest = min(shapes.COLOURS, key=lambda c: np.abs(middle - 0.925 * np.array(shapes.COLOURS[c])).sum())
        assert nearest == made.answer, number
        assert 0 <= top < bottom <= 64 and 0 <= left < right <= 64


def test_the_question_about_a_shape_alone_tells_next_to_nothing() -> None:
    made = [shapes.scene(i, "count") for i in range(400)]
    counts = [sum(one.answer == str(n) for one in made) for n in range(4)]
    assert all(65 < count < 135 for count in counts)  # 100 each, 4 deviations of 8.7
    yes = sum(shapes.scene(i, "exists").answer == "yes" for i in range(400))
    assert 160 < yes < 240
    assert shapes.scene(3, "shape", split="val").question  # another split has other scenes
    assert not np.array_equal(shapes.scene(3, "shape", split="val").image, shapes.scene(3, "shape").image)


def test_shapes_are_seeded_and_become_samples(tmp_path: Path, no_ray: None) -> None:
    fingerprints = []
    for name in ("a", "b"):
        given = {"count": "8", "held_out": "4"}
        made = shard.run(shard.Config(source="shapes", option=given, output=str(tmp_path / name), workers=1))
        fingerprints.append(made["fingerprint"])
    assert fingerprints[0] == fingerprints[1]
    data = DataSet(str(tmp_path / "a"))
    assert data.column("question_type") == [0, 1, 2, 3] * 2 and data.sample(0)["box"].shape == (4,)
    with pytest.raises(ValueError, match="--option size 16"):
        shapes.Shapes(shapes.Options(size=16)).samples()
