"""The set whose plausible outputs are known: its samples are what they say, and what is reached of them is counted."""

from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import shard
from pipeline.data.shards import DataSet
from pipeline.data.sources.colourings import COLOURINGS, HELD_OUT, SHOWN, Colourings, Options, layout
from pipeline.data.tensors import to_tensor
from pipeline.evaluation.truths import apart, hits, of_input


def test_samples_hold_their_layout_in_one_of_all_colourings(tmp_path: Path) -> None:
    option = {"size": "24", "count": "40", "held_out": "5", "shares": "1,1,1,1"}
    shard.run(shard.Config(source="colourings", option=option, output=str(tmp_path / "data"), workers=0))
    for split, first, count in (("train", 0, 40), ("val", HELD_OUT, 5)):
        data = DataSet(str(tmp_path / "data"), split)
        assert len(data) == count
        seen = set()
        for i in range(count):
            ids = layout(first + i, 24)
            assert (data.image(i, "input") == SHOWN[ids]).all()
            truths = data.value(i, "truths").transpose(0, 2, 3, 1)
            assert (truths == COLOURINGS[:, ids]).all()
            [which] = [k for k in range(4) if (truths[k] == data.image(i, "target")).all()]
            seen.add(which)
        assert seen == {0, 1, 2, 3} if split == "train" else len(seen) > 1


def test_a_layout_is_the_same_at_every_size() -> None:
    fine = layout(7, 128)
    assert (fine[2::4, 2::4] == layout(7, 32)).mean() > 0.98
    assert set(np.unique(fine)) == {0, 1, 2}
    other = Colourings(Options(input="labels", count=3, held_out=1))
    assert other.fields["input"].kind == "labels"


def test_rare_colourings_are_rare() -> None:
    made = Colourings(Options(count=2000, held_out=1, shares="0.7,0.1,0.1,0.1")).samples()["train"]
    counts = np.bincount([int(one.source.split("/")[1]) for one in made]) / 2000
    assert counts[0] == pytest.approx(0.7, abs=0.04) and counts[1:] == pytest.approx([0.1] * 3, abs=0.03)
    for wrong in ("1", "1,1,1,x", "0,0,0,0", "1,1,1,-1", "nan,1,1,1"):
        with pytest.raises(ValueError, match=r"--option shares .* give 4 numbers"):
            Colourings(Options(shares=wrong))


def test_what_is_reached_against_loops() -> None:
    ids = layout(3)
    truths = to_tensor([c[ids] for c in COLOURINGS])
    pairs = [float(((a - b) ** 2).mean()) for i, a in enumerate(truths) for b in truths[i + 1 :]]
    assert float(apart(truths)) == pytest.approx(np.mean(pairs))
    noise = torch.randn(truths.shape, generator=torch.Generator().manual_seed(0))
    near = (0.02 * np.mean(pairs)) ** 0.5
    samples = torch.cat([truths[:3] + near * noise[:3], truths[3:] + 1.4 * near * noise[3:], truths.mean(0)[None]])
    wanted = [[float(((s - t) ** 2).mean()) < 0.03 * np.mean(pairs) for t in truths] for s in samples]
    assert hits(samples, truths).tolist() == wanted
    assert [sum(row) for row in wanted] == [1, 1, 1, 0, 0]  # too far, and the mean of all
    assert of_input(samples, truths) == {"hit": 3, "all_hit": 0, "on_a_truth": pytest.approx(3 / 5)}
    assert of_input(truths, truths)["all_hit"] == 1
