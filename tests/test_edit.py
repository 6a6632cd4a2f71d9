"""jobs.edit: objects listed, changed, removed, added, restyled; from a data set and from files; what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import models
from jobs import edit, shard
from models.common import objects
from models.common.seeds import seeded
from models.group import Group
from pipeline.artifacts import storage
from pipeline.data import decode
from pipeline.data.shards import DataSet
from pipeline.data.tensors import to_uint8
from pipeline.evaluation import edits
from pipeline.runs import checkpoint
from pipeline.runs.sampler import open_run
from pipeline.tracking.journal import Tracker
from tests.test_export import finished

PLACES = ((300, 1, (2, 3, 8, 10)), (301, 1, (2, 18, 6, 9)), (302, 4, (16, 5, 9, 20)))
"""Object, its class, its rectangle."""


def maps(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Class 0 around object 300 (class 1), object 301 (class 1), object 302 (class 4)."""
    labels, ids = np.zeros((32, 32), np.uint8), np.full((32, 32), 7, np.uint16)
    for one, kind, box in PLACES:
        top, left, height, width = box
        labels[top : top + height, left : left + width] = kind
        ids[top : top + height, left : left + width] = one
    return np.roll(labels, number, 1), np.roll(ids, number, 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("objects")
    root = folder / "source"
    for part in ("labels", "instances", "target"):
        (root / "val" / part).mkdir(parents=True)
    for i in range(4):
        labels, ids = maps(i)
        Image.fromarray(labels).save(root / f"val/labels/{i}.png")
        Image.fromarray(ids).save(root / f"val/instances/{i}.png")
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"val/target/{i}.png")
    shard.run(shard.Config(source=str(root), output=str(folder / "data"), workers=0))
    return str(folder / "data")


def trained(folder: Path, counts: tuple[int, ...] = (2, 3, 0, 3, 1), **change: Any) -> str:
    """A run of the tiny preset with its first weights and some clusters."""
    recipe = replace(models.load("pix2pixhd").PRESETS["tiny"], **change)
    family = models.load("pix2pixhd").build(recipe, Group(), None)
    if recipe.features:
        family.clusters.centres.normal_(std=3, generator=seeded("centres"))
        family.clusters.counts.copy_(torch.tensor(counts))
    facts = {"family": "pix2pixhd", "recipe": checkpoint.recipe_json(recipe), "inputs": {"weights": "none"}}
    storage.publish_json(str(folder / "recipe.json"), facts)
    checkpoint.publish(str(folder / "weights"), {"family": family.state_dict()}, facts)
    return str(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return trained(tmp_path_factory.mktemp("run"))


def config(run: str, data: str, output: Path | str = "", **change: Any) -> edit.Config:
    return edit.Config(
        **{"run": run, "data": data, "key": DataSet(data, "val").keys[0], "output": str(output), **change}
    )


def read(path: Path | str, kind: str = "image") -> np.ndarray:
    return decode.pixels(Path(path).read_bytes(), kind)


def test_the_list_names_objects(run: str, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert edit.run(config(run, data, list=True)) == []
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["object", "class", "pixels", "top", "left", "height", "width", "styles"],
        ["7", "0", "710", "0", "0", "32", "32", "2"],
        ["302", "4", "180", "16", "5", "9", "20", "1"],
        ["300", "1", "80", "2", "3", "8", "10", "3"],
        ["301", "1", "54", "2", "18", "6", "9", "3"],
    ]


def test_edits_are_applied_one_upon_the_other(run: str, data: str, tmp_path: Path) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[28:30, 2:7] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    given = {
        "change": ((300, 3),),
        "remove": (301,),
        "add": ((1, 12, 10, 3, 4),),
        "add_mask": ((0, str(tmp_path / "mask.png")),),
        "style": ((300, 2), (303, 1)),
        "show_styles": (7,),
    }
    with Tracker(str(tmp_path / "log"), None, "edit", "edit") as tracker:
        paths = edit.run(config(run, data, tmp_path / "out", **given), tracker)
    assert [Path(path).name for path in paths] == ["edited.png", "labels.png", "instances.png", "edits.png"]
    assert sorted(p.name for p in (tmp_path / "log/pictures").iterdir()) == ["edited-0.png", "edits-0.png"]

    labels, ids = (torch.from_numpy(x.astype(np.int64)) for x in maps(0))
    labels[ids == 300] = 3
    labels, ids = objects.remove(labels, ids, 301)
    labels[12:15, 10:14], ids[12:15, 10:14] = 1, 303
    labels[28:30, 2:7], ids[28:30, 2:7] = 0, 304
    np.testing.assert_array_equal(read(paths[1], "labels"), labels.numpy())
    np.testing.assert_array_equal(read(paths[2], "labels"), ids.numpy())
    family: Any = open_run(run).family
    wanted = to_uint8(family.picture_of(labels, ids, 0, {300: 2, 303: 1}))
    np.testing.assert_array_equal(read(paths[0]), wanted)
    assert (wanted != to_uint8(family.picture_of(labels, ids, 0, {300: 2, 303: 0}))).any()
    # Photograph, unedited, six edits, two styles of object 7; a row of pictures, one of maps.
    width, height = Image.open(paths[3]).size
    assert 10 * 131 <= width < 10 * 131 + 180 and 2 * 131 <= height < 2 * 131 + 120

    # The maps that were written go on.
    written = {"labels": paths[1], "instances": paths[2], "style": ((300, 2), (303, 1))}
    [again, *_] = edit.run(edit.Config(run=run, output=str(tmp_path / "next"), **written))  # type: ignore[arg-type]
    np.testing.assert_array_equal(read(again), wanted)


def test_a_class_that_training_never_saw_is_told(
    run: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit.run(config(run, data, tmp_path / "seen", change=((300, 3),), add=((1, 12, 10, 3, 4),)))
    assert "training saw no object" not in capsys.readouterr().err
    edit.run(config(run, data, tmp_path / "unseen", change=((300, 2),), add=((2, 12, 10, 3, 4),)))
    assert capsys.readouterr().err.count("class 2: training saw no object of it") == 1
    plain = trained(tmp_path / "plain", features=0)
    edit.run(config(plain, data, tmp_path / "without", change=((300, 2),)))
    assert "training saw no object" not in capsys.readouterr().err  # without styles it is not known


def test_without_an_edit_a_sheet_shows_some_of_each(run: str, data: str, tmp_path: Path) -> None:
    with Tracker(str(tmp_path / "log"), None, "edit", "edit") as tracker:
        [path] = edit.run(config(run, data, tmp_path / "out", key="", limit=2, count=3), tracker)
    width, height = Image.open(path).size
    assert 7 * 131 <= width < 7 * 131 + 180 and 4 * 131 <= height < 4 * 131 + 120
    before = Path(path).read_bytes()
    edit.run(config(run, data, tmp_path / "out", key="", limit=2, count=3))
    assert Path(path).read_bytes() == before


def test_compact_objects_are_proposed(run: str) -> None:
    """Object 2, a frame, is larger than 1, a square: removed it would leave a ring to be filled from both sides."""
    labels, ids = torch.zeros(32, 32, dtype=torch.int64), torch.zeros(32, 32, dtype=torch.int64)
    for one, (first, last) in enumerate(((20, 30), (2, 18)), start=1):
        labels[first:last, first:last] = ids[first:last, first:last] = one
    labels[4:16, 4:16] = ids[4:16, 4:16] = 0
    family: Any = open_run(run).family
    _, words = edits.proposed(family, edits.Picture("x", edits.State((labels, ids))), 1, 0)
    assert words[:2] == ["1: class 0", "1 removed"]


def test_connected_components_are_edited_where_there_is_no_map_of_objects(data: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", instances=False)
    paths = edit.run(config(run, data, tmp_path / "out", remove=(1,)))
    ids, (labels, before) = read(paths[2], "labels"), maps(0)
    assert (ids[before == 301] == 2).all() and (ids[before == 302] == 3).all() and (ids[before == 300] == 0).all()
    assert (read(paths[1], "labels")[before == 300] == 0).all() and labels[before == 300].all()


def test_ids_beyond_16_bits_are_written_too(run: str, tmp_path: Path) -> None:
    labels, ids = maps(0)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    Image.fromarray(ids.astype(np.int32) + 70_000).save(tmp_path / "ids.tif")
    given = {"labels": str(tmp_path / "labels.png"), "instances": str(tmp_path / "ids.tif")}
    paths = edit.run(edit.Config(run=run, output=str(tmp_path / "out"), change=((70_300, 0),), **given))
    assert paths[2].endswith("instances.tif")
    np.testing.assert_array_equal(read(paths[2], "labels"), ids.astype(np.int64) + 70_000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"change": ((9, 1),)}, "--change 9 1: no object 9: there are 7, 300, 301, 302"),
        ({"change": ((300, 5),)}, "--change 300 5: no class 5: the run has 5, 0 to 4"),
        ({"remove": (9,)}, "--remove 9: no object 9"),
        ({"remove": (300, 300)}, "--remove 300: no object 300: there are 7, 301, 302"),
        ({"add": ((1, 30, 0, 3, 3),)}, "--add 1 30 0 3 3: top, left, height and width .* within 32 x 32 pixels"),
        ({"add": ((-1, 0, 0, 3, 3),)}, "--add -1 0 0 3 3: no class -1"),
        ({"style": ((9, 0),)}, "--style 9 0: no object 9"),
        ({"style": ((300, 3),)}, "--style 300 3: object 300 is of class 1, which has the styles 0 to 2: no style 3"),
        ({"change": ((300, 2),), "style": ((300, 0),)}, "--style 300 0: object 300 is of class 2, which has no styles"),
        ({"change": ((300, 2),), "show_styles": (300,)}, "--show-styles 300: object 300 is of class 2, which has no"),
        ({"show_styles": (9,)}, "--show-styles 9: no object 9"),
        ({"key": "x", "list": True}, "--key x: no such sample in val: "),
    ],
)
def test_edits_that_cannot_be(run: str, data: str, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edit.run(config(run, data, tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()


def test_files_and_runs_that_do_not_fit(run: str, data: str, tmp_path: Path) -> None:
    labels, ids = maps(0)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    Image.fromarray(ids[:, :16]).save(tmp_path / "half.png")
    Image.fromarray(labels * 0).save(tmp_path / "nothing.png")
    out, files = str(tmp_path / "out"), {"labels": str(tmp_path / "labels.png")}
    with pytest.raises(ValueError, match=r"--instances .*half.png: 32 x 16 pixels, --labels: 32 x 32"):
        edit.run(edit.Config(run=run, output=out, instances=str(tmp_path / "half.png"), **files))
    with pytest.raises(ValueError, match="--instances is missing: this run was trained with"):
        edit.run(edit.Config(run=run, output=out, **files))
    with pytest.raises(ValueError, match=r"--add-mask 1 .*half.png: the mask is 32 x 16 pixels, the maps are 32 x 32"):
        edit.run(config(run, data, out, add_mask=((1, str(tmp_path / "half.png")),)))
    with pytest.raises(ValueError, match=r"--add-mask 1 .*nothing.png: the new object covers no pixel"):
        edit.run(config(run, data, out, add_mask=((1, str(tmp_path / "nothing.png")),)))
    (tmp_path / "text.png").write_text("x")
    with pytest.raises(ValueError, match=r"--labels .*text.png: not an image"):
        edit.run(edit.Config(run=run, output=out, labels=str(tmp_path / "text.png")))
    with pytest.raises(ValueError, match="give either --data"):
        edit.Config(run=run, output=out)
    with pytest.raises(ValueError, match="--key is missing"):
        edit.Config(run=run, output=out, data=data, remove=(7,))

    no_clusters = trained(tmp_path / "early", (0,) * 5)
    with pytest.raises(ValueError, match="--style 300 0: this run has no styles yet: they are made at the end of its"):
        edit.run(config(no_clusters, data, out, style=((300, 0),)))
    [path] = edit.run(config(no_clusters, data, out, key=""))  # the styles' places are empty
    assert Path(path).name == "edits.png"
    no_features = trained(tmp_path / "plain", features=0)
    with pytest.raises(ValueError, match="--style 300 0: this run has no styles: train one with features"):
        edit.run(config(no_features, data, out, style=((300, 0),)))
    pictures = trained(tmp_path / "pictures", condition="image", labels=0, features=0, instances=False)
    with pytest.raises(ValueError, match="--condition image: only runs on label maps have objects to edit"):
        edit.run(edit.Config(run=pictures, output=out, **files))
    other = finished(tmp_path / "other", "bicyclegan")
    with pytest.raises(ValueError, match=r"jobs\.edit needs a family that edits objects; this one: draws samples"):
        edit.run(edit.Config(run=other, output=out, **files))
