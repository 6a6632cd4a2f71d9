"""Points of the plane: the published mixtures, and a data set of them."""

import io
import math
from pathlib import Path

import numpy as np
import pytest

from jobs import shard
from pipeline.data.images import Images
from pipeline.data.shards import DataSet, facts_of
from pipeline.data.sources import points
from tests.pipeline.data.test_idx import opened


@pytest.mark.parametrize(
    ("layout", "convention", "count", "radius", "deviation"),
    [
        ("ring", "pacgan", 8, 1.0, 0.01),
        ("ring", "wgan-gp", 8, 2 / 1.41421356, 0.02 / 1.41421356),
        ("grid", "pacgan", 25, 4 * math.sqrt(2), 0.05),
        ("grid", "wgan-gp", 25, 2.0, 0.05 / 2.82842712),
    ],
)
def test_the_two_conventions_of_points(
    layout: str, convention: str, count: int, radius: float, deviation: float
) -> None:
    found = points.modes(layout, convention)
    assert found.centres.shape == (count, 2) and len({tuple(c) for c in found.centres.round(9).tolist()}) == count
    assert np.linalg.norm(found.centres, axis=1).max() == pytest.approx(radius)
    assert found.deviation == pytest.approx(deviation)
    source = opened("points", "points", layout=layout, convention=convention, count=count * 80, held_out=4)
    entries = source.samples()["train"]
    drawn = np.stack([np.load(io.BytesIO(source.reader(e.files["points"], "points"))) for e in entries])
    modes = np.array([int(e.files["class"]) for e in entries])
    assert np.bincount(modes).tolist() == [80] * count
    apart = drawn - found.centres[modes]
    assert apart.std() == pytest.approx(deviation, rel=0.12) and abs(apart.mean()) < deviation / 4
    held_out = source.samples()["val"][0].files["points"]
    assert source.reader(held_out, "points") != source.reader(entries[0].files["points"], "points")


def test_points_become_a_data_set(tmp_path: Path, no_ray: None) -> None:
    options = {"count": "32", "held_out": "8"}
    shard.run(shard.Config(source="points", option=options, output=str(tmp_path / "data"), workers=1))
    data = DataSet(str(tmp_path / "data"))
    assert facts_of(data).fields["class"]["counts"] == [4] * 8
    assert facts_of(data).fields["points"]["shape"] == [2] and facts_of(data).samples == 32
    batch = Images(data).centred([0, 9], ["points", "class"], (8, 8))
    assert batch["points"].shape == (2, 2) and batch["class"].tolist() == [0, 1]
