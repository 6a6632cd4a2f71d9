"""Sources are found like families; options are checked; the table source; classes and instances of folders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs import shard
from models.family import FieldSpec
from pipeline.data import sources
from pipeline.data.images import Images
from pipeline.data.shards import DataSet, facts_of


def test_what_a_source_says() -> None:
    assert {"demo", "folder", "table"} <= set(sources.names())
    assert sources.parse("demo") == ("demo", "demo")
    assert sources.parse("/a/b") == ("folder", "/a/b") and sources.parse("s3://a/b") == ("folder", "s3://a/b")
    assert sources.parse("table:/a/b.csv") == ("table", "/a/b.csv")
    for wrong, message in (("table", "say what it reads"), ("demo:/x", "built in")):
        with pytest.raises(ValueError, match=message):
            sources.parse(wrong)
    with pytest.raises(ValueError, match="--option colour: source demo has no such option, only size"):
        sources.options("demo", {"colour": "red"})
    with pytest.raises(ValueError, match="--option size many: "):
        sources.options("demo", {"size": "many"})


def test_the_request_of_older_data_sets_stays_as_it_was() -> None:
    found = sources.options("folder", {"layout": "pairs", "input_side": "", "val_share": 0.0})
    assert found == {"kind": "folder", "layout": "pairs", "input_side": "", "val_share": 0.0}


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


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
    assert facts_of(data).fields["features"] == {"kind": "array", "shape": [2, 3]}
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


def test_a_folder_whose_folders_are_classes(tmp_path: Path, no_ray: None) -> None:
    for name in ("b", "a/x"):
        write(tmp_path / "s" / name / "0.png", np.zeros((8, 8, 3), np.uint8))
    shard.run(shard.Config(source=str(tmp_path / "s"), layout="classes", output=str(tmp_path / "d"), workers=1))
    data = DataSet(str(tmp_path / "d"))
    assert dict(zip(data.labels, data.column("class"), strict=True)) == {"a/x": 0, "b": 1}
    assert data.fields["class"].names == ("a/x", "b")
    write(tmp_path / "s" / "stray.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="lie in no folder that would be their class"):
        shard.run(shard.Config(source=str(tmp_path / "s"), layout="classes", output=str(tmp_path / "e"), workers=1))


@pytest.mark.parametrize("deep", [False, True])
def test_instance_maps_beside_labels(deep: bool, tmp_path: Path, no_ray: None) -> None:
    ids = np.array([[7, 7], [24, 200]]).repeat(4, 0).repeat(4, 1)
    instances = (ids * 100 if deep else ids).astype(np.uint16 if deep else np.uint8)
    write(tmp_path / "s" / "labels" / "a.png", (ids % 5).astype(np.uint8))
    write(tmp_path / "s" / "target" / "a.png", np.zeros((8, 8, 3), np.uint8))
    write(tmp_path / "s" / "instances" / "a.png", instances)
    shard.run(shard.Config(source=str(tmp_path / "s"), output=str(tmp_path / "d"), workers=1))
    batch = Images(DataSet(str(tmp_path / "d"))).centred([0], ["input", "instances"], (8, 8))
    assert batch["instances"][0].tolist() == instances.astype(int).tolist()
    write(tmp_path / "s" / "target" / "b.png", np.zeros((8, 8, 3), np.uint8))
    write(tmp_path / "s" / "labels" / "b.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match="no instances of this name"):
        shard.run(shard.Config(source=str(tmp_path / "s"), output=str(tmp_path / "e"), workers=1))
