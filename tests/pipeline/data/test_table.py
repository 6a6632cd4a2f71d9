"""A table as a source: columns of any kinds, and plain text."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import shard
from models.family import FieldSpec
from pipeline.data.images import Images
from pipeline.data.shards import DataSet, facts_of
from tests.pipeline.data.test_sources import write


def test_a_table_of_any_kinds(tmp_path: Path, no_ray: None) -> None:
    random = np.random.default_rng(0)
    for i in range(3):
        write(tmp_path / "photos" / f"{i}.png", random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        np.save(tmp_path / f"{i}.npy", random.standard_normal((2, 3)).astype(np.float32))
    rows = [
        {"photo": f"photos/{i}.png", "kind": kind, "features": f"{i}.npy", "caption": [f"one {i}", "two"], "split": s}
        for i, (kind, s) in enumerate([("cat", "train"), ("", "train"), ("dog", "val")])
    ]
    rows.append({**rows[0], "photo": "photos/missing.png"})
    table = tmp_path / "t.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    options = {"fields": "photo=image,kind=class,features=array,caption=tokens"}
    made: dict[str, Any] = {"source": f"table:{table}", "option": options, "output": str(tmp_path / "d"), "workers": 1}
    shard.run(shard.Config(max_bad_share=0.5, **made))
    data = DataSet(str(tmp_path / "d"))
    assert data.column("kind") == [0, -1] and facts_of(data).fields["kind"]["names"] == ["cat", "dog"]
    arrays = np.stack([np.load(tmp_path / f"{i}.npy") for i in range(2)]).astype(float)
    features = facts_of(data).fields["features"]
    assert features == {"kind": "array", "shape": [2, 3], "rms": pytest.approx(np.sqrt((arrays**2).mean()), rel=1e-5)}
    batch = Images(data, specs={"photo": FieldSpec("image", channels=1)}).centred([0, 1], list(data.fields), (8, 8))
    assert batch["photo"].shape == (2, 1, 8, 8) and batch["features"].shape == (2, 2, 3)
    assert batch["caption_length"].tolist() == [2, 2] and batch["kind"].tolist() == [0, -1]
    for wrong, message in (
        ({"fields": "photo=picture"}, "no kind of field 'picture'"),
        ({"fields": "nothing=image"}, "has no column 'nothing', only photo"),
        ({}, "say which columns are fields"),
    ):
        with pytest.raises(ValueError, match=message):
            shard.run(shard.Config(**{**made, "option": wrong, "output": str(tmp_path / "e")}))


def test_a_table_of_plain_text(tmp_path: Path, no_ray: None) -> None:
    (tmp_path / "t.csv").write_text("question,number\nwhat is it?,3\nwho?,1\n")
    options = {"fields": "question=tokens,number=class"}
    shard.run(shard.Config(source=f"table:{tmp_path}/t.csv", option=options, output=str(tmp_path / "d"), workers=1))
    data = DataSet(str(tmp_path / "d"))
    assert data.column("number") == [3, 1] and data.column("question") == [["what is it?"], ["who?"]]
    assert data.row(0)["width"] is None
