"""Sources are found like families; options are checked; classes and instances of folders."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import shard
from pipeline.data import sources
from pipeline.data.images import Images
from pipeline.data.shards import DataSet


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
