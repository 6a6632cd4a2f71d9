"""Question answering and matching through jobs.run: shards, features, training, answers, figures, sheets."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs import evaluate, run, shard, train
from models import vqa
from models.vqa import Config
from pipeline.artifacts import storage
from pipeline.data.shards import DataSet
from pipeline.style.features import FeatureOptions
from pipeline.tracking import sheets
from pipeline.training.job import Run

QUIET = Run(workers=0, threads=1, checkpoint_every=4, log_every=4, evaluate_every=4, evaluate_images=8)
SMALL = FeatureOptions(net="vgg19", layer="relu2_1", pool=2, size=32)
PRESETS = [name for name in vqa.PRESETS if not name.startswith("tiny")]


def small(name: str) -> Config:
    """A preset with few and narrow layers, for eight questions."""
    preset = vqa.PRESETS[name]
    joint = 16 if preset.direct else 8
    mlp = (8,) * len(preset.mlp)
    made = replace(preset, hidden=8, embedding=8, joint=joint, mlp=mlp, batch=4, questions=8, drop_at=0)
    return replace(made, size=32, common=20, openers=3, margin=1.0)


def whole(name: str, folder: Path, **given: Any) -> dict[str, Any]:
    recipe = small(name)
    options = {"weights": "random", "grid_features": SMALL, "tracking": "off", "run": QUIET, "workers": 1, **given}
    config = train.command_line(run.Config, recipe)(recipe=recipe, output=str(folder), **options)
    return dict(run.run("vqa", config))


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "m-dan"])
def test_every_preset_answers_about_shapes(name: str, tmp_path: Path, no_ray: None) -> None:
    figures = whole(name, tmp_path, source="shapes", option={"count": "16", "held_out": "8"})
    assert 0 <= figures["vqa_overall"] <= 100 and figures["images"] == 8
    assert {"vqa_baseline_prior", "vqa_baseline_prior_per_type", "vqa_baseline_nearest"} <= set(figures)
    answers = storage.read_json(str(tmp_path / "samples" / "answers.json"))
    asked = DataSet(str(tmp_path / ("features" if (tmp_path / "features").exists() else "data")), "val")
    assert len(answers) >= 4
    for one in answers:
        text = (
            asked.sample(asked.keys.index(one["key"]))["question"][0] if vqa.fields(small(name)).get("question") else ""
        )
        assert one["row"] == f"{one['key']} {text}".strip()
    rows = list(csv.reader(io.StringIO((tmp_path / "evaluation" / "accuracies.csv").read_text())))
    assert rows[0][:4] == ["kind", "group", "questions", "run"] and rows[1][3] == str(figures["vqa_overall"])
    sees = vqa.fields(small(name)).keys() & {"grid", "vector"}
    assert (tmp_path / "features").exists() == bool(sees)
    made = {path.stem for path in (tmp_path / "evaluation").glob("*.png")}
    assert made == ({"answers-confused", "attention"} if name == "r-dan" else {"answers-confused"})


def test_choices_that_the_training_set_had_not(tmp_path: Path, no_ray: None) -> None:
    """v2 has none, v1 has: the run answers, and chooses among them."""
    whole("bow-q", tmp_path / "run", source="shapes", option={"count": "16", "held_out": "8"})
    root = tmp_path / "v1"
    root.mkdir()
    asked = [
        {"question_id": i, "image_id": i, "question": "is there a blue cross ?", "multiple_choices": ["yes", "no"]}
        for i in range(3)
    ]
    said = [
        {"question_id": i, "answers": [{"answer": "yes"}] * 10, "question_type": "is there", "answer_type": "yes/no"}
        for i in range(3)
    ]
    (root / "q.json").write_text(json.dumps({"questions": asked}))
    (root / "a.json").write_text(json.dumps({"annotations": said}))
    option = {"val": "q.json,a.json"}
    shard.run(shard.Config(source=f"vqa:{root}", option=option, output=str(tmp_path / "data"), workers=0))
    given = {"data": str(tmp_path / "data"), "output": str(tmp_path / "figures"), "weights": "random"}
    figures = evaluate.run(evaluate.Config(run=str(tmp_path / "run" / "train"), **given))
    assert figures["vqa_multiple_choice"] in (0.0, 100.0) and figures["images"] == 3


def test_sentences_and_images_find_each_other(tmp_path: Path, no_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    titles, draw = [], sheets.sheet

    def seen(rows: Any, names: Any, columns: Any, title: str, *rest: Any) -> Any:
        titles.append((title, columns[0]))
        return draw(rows, names, columns, title, *rest)

    monkeypatch.setattr("pipeline.evaluation.looks.sheets.sheet", seen)
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    lines = ["image,caption"]
    for i in range(12):
        picture = np.random.default_rng(i).integers(0, 256, (40, 40, 3)).astype(np.uint8)
        Image.fromarray(picture).save(source / "images" / f"{i}.png")
        lines += [f"{i}.png,a picture of thing{i}", f"{i}.png,thing{i} again"]
    (source / "list.csv").write_text("\n".join(lines))
    option = {"splits": "8,4,0"}
    figures = whole("m-dan", tmp_path / "out", source=f"captions:{source / 'list.csv'}", option=option)
    assert figures["recall10_grid"] == 1  # four images
    assert 1 <= figures["median_rank_caption"] <= 7  # eight sentences, two of each image
    made = {path.stem for path in (tmp_path / "out" / "evaluation").glob("*.png")}
    assert made == {"attention", "retrieval-caption", "retrieval-grid"}
    assert ("Retrieval: image for caption", "query: caption") in titles  # not of the features that stand for it
    assert ("Retrieval: caption for image", "query: image") in titles


def test_a_source_without_pictures_has_no_features(tmp_path: Path, no_ray: None) -> None:
    table = tmp_path / "table.csv"
    table.write_text("question,answers\n" + "is it?,yes\n" * 8)
    with pytest.raises(ValueError, match="has no field 'image'"):
        whole("r-dan", tmp_path / "out", source=f"table:{table}", option={"fields": "question=tokens,answers=answers"})


@pytest.mark.parametrize("name", PRESETS[:-1])
def test_every_preset_on_real_questions(name: str, real_data: Path, tmp_path: Path, no_ray: None) -> None:
    """48 COCO images with 73 questions, real SqueezeNet: the path alone, there is too little to learn from."""
    source = tmp_path / "source"
    shutil.copytree(real_data / "vqa_v2_subset" / "train2014", source / "train2014")
    both = json.loads((real_data / "vqa_v2_subset" / "with_images.json").read_text())
    for split, part in (("train", slice(0, 55)), ("val", slice(55, 73))):
        ids = {question["question_id"] for question in both["questions"][part]}
        answers = [row for row in both["annotations"] if row["question_id"] in ids]
        kept = {"questions": both["questions"][part], "annotations": answers}
        (source / f"{split}.json").write_text(json.dumps(kept))
    figures = whole(
        name,
        tmp_path / "out",
        source=f"vqa:{source}",
        option={"train": "train.json,train.json", "val": "val.json,val.json", "images": "train2014"},
        weights=str(real_data / "weights" / "squeezenet1_1" / "squeezenet1_1_caffe.pth"),
        grid_features=FeatureOptions(net="squeezenet1_1", layer="fire9", pool=1, size=64),
    )
    assert figures["images"] == 18 and 0 <= figures["vqa_overall"] <= 100 and "vqa_yes/no" in figures
    if name == "r-dan":
        assert DataSet(str(tmp_path / "out" / "features"), "val").sample(0)["grid"].shape == (3, 3, 512)
