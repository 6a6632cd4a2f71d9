"""The contract carries more than picture to picture: three families that live here train, are killed and resume, run on
two workers, sample or answer, are evaluated, packaged and go through the whole job, without a line about them anywhere
else."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import models
from jobs import evaluate, run, sample, shard, train
from pipeline.artifacts import storage
from pipeline.data.images import Images
from pipeline.data.shards import DataSet, facts_of
from pipeline.runs import checkpoint, package
from pipeline.training import loop
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit
from pipeline.training.trainer import Stopped
from tests.training_ranks import fit_on_two_ranks

HERE = Path(__file__).parent / "families"
NAMES = ("tiny_classes", "tiny_text", "tiny_domains")
QUIET = Run(workers=0, threads=1, checkpoint_every=3, log_every=4, evaluate_every=5, evaluate_images=6)


@pytest.fixture(scope="module", autouse=True)
def families() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VARIEGATE_FAMILIES", str(HERE))
        importlib.reload(models)
        yield
    importlib.reload(models)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each family is trained on, as options of jobs.shard."""
    root = tmp_path_factory.mktemp("sources")
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for name, shade in (("dark", 40), ("light", 200)):
            folder = root / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(random.normal(shade, 20, (10, 12, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    asked = {"is it a cat?": "cat", "what barks? a dog": "dog", "does it moo, the cow": "cow"}
    rows = [
        {"split": split, "question": text, "answers": [answer] * 9 + ["no"]}
        for split, count in (("train", 6), ("val", 2))
        for _ in range(count)
        for text, answer in asked.items()
    ]
    (root / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pictures = {"source": str(root / "pictures"), "layout": "classes"}
    text = {"source": f"table:{root}/questions.jsonl", "option": {"fields": "question=tokens,answers=answers"}}
    return {"tiny_classes": pictures, "tiny_domains": pictures, "tiny_text": text}


@pytest.fixture(scope="module")
def data(sources: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory, inline: Any) -> dict[str, str]:
    from pipeline.artifacts import pool

    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "each", inline)
        for name, options in sources.items():
            found[name] = str(tmp_path_factory.mktemp("data") / name)
            shard.run(shard.Config(output=found[name], shard_size=8, workers=1, **options))
    return found


def job(name: str, data: dict[str, str], output: Path, **changes: Any) -> Job:
    recipe = models.load(name).PRESETS["tiny"]
    return replace(Job(name, recipe, data[name], str(output), run=QUIET), **changes)


@pytest.fixture(scope="module")
def trained(data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name in NAMES:
        found[name] = tmp_path_factory.mktemp(name)
        fit(job(name, data, found[name]))
    return found


def test_the_index_knows_classes_and_texts(data: dict[str, str]) -> None:
    pictures, text = DataSet(data["tiny_classes"]), DataSet(data["tiny_text"])
    assert pictures.column("class") == [0] * 8 + [1] * 8
    known = facts_of(pictures).fields["class"]
    assert (known["classes"], known["names"], known["counts"]) == (2, ["dark", "light"], [8, 8])
    words = facts_of(text).fields["question"]["words"]
    assert words[:3] == ["?", "a", "it"] and {"cat", "barks"} <= set(words)  # the most frequent first, then by letters
    batch = Images(text).centred([0, 1], ["question", "answers"], (8, 8))
    assert batch["question"].shape == (2, 5) and batch["question_length"].tolist() == [5, 5]
    place = facts_of(text).fields["answers"]["answers"].index("cat")
    assert batch["answers"][0, place] == 9  # nine of ten people


@pytest.mark.parametrize("name", NAMES)
def test_it_learns(name: str, data: dict[str, str], trained: dict[str, Path]) -> None:
    lines = [json.loads(line) for line in (trained[name] / "metrics.jsonl").read_text().splitlines()]
    losses = [line["values"]["main/loss"] for line in lines if "main/loss" in line.get("values", {})]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_stopped_run_ends_bit_for_bit_as_an_undisturbed_one(
    name: str, data: dict[str, str], trained: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        fit(job(name, data, tmp_path, stop_after=4))
    fit(job(name, data, tmp_path))
    assert (tmp_path / "weights.pt").read_bytes() == (trained[name] / "weights.pt").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_two_workers_take_the_steps_of_one(
    name: str,
    data: dict[str, str],
    trained: dict[str, Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first family on Ray Train, whose part is the same for all and takes ten seconds; the others without it."""
    if name == NAMES[0]:
        request.getfixturevalue("ray_cluster")
    else:
        monkeypatch.setattr(loop, "_fit_on_ray", fit_on_two_ranks)
    fit(job(name, data, tmp_path, run=replace(QUIET, workers=2)))
    one, two = (checkpoint.load(str(f / "weights.pt"))["family"] for f in (trained[name], tmp_path))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5)


def test_a_class_is_sampled_without_its_data_set(trained: dict[str, Path], tmp_path: Path) -> None:
    sample.run(sample.Config(run=str(trained["tiny_classes"]), output=str(tmp_path), count=2, files=True))
    made = sorted(p.name for p in (tmp_path / "prior").iterdir())
    assert made == ["dark-0.png", "dark-1.png", "light-0.png", "light-1.png"]
    dark, light = (np.asarray(Image.open(tmp_path / "prior" / f"{n}-0.png")).mean() for n in ("dark", "light"))
    assert dark < 100 < 150 < light
    with pytest.raises(ValueError, match="class 7: the data set has 2"):
        sample.run(sample.Config(run=str(trained["tiny_classes"]), output=str(tmp_path), given={"class": "7"}))
    with pytest.raises(ValueError, match="--inputs: is for families that read one picture; tiny_classes reads class"):
        sample.run(sample.Config(run=str(trained["tiny_classes"]), output=str(tmp_path), inputs=str(tmp_path)))


def test_a_question_is_answered(trained: dict[str, Path], tmp_path: Path) -> None:
    [path] = sample.run(
        sample.Config(
            run=str(trained["tiny_text"]), output=str(tmp_path), given={"question": "Which one BARKS?"}, count=1
        )
    )
    [row] = storage.read_json(path)
    assert row["answers"][0]["answer"] == "dog"


def test_domains_are_translated_and_styles_mixed(
    data: dict[str, str], trained: dict[str, Path], tmp_path: Path
) -> None:
    options = sample.Config(run=str(trained["tiny_domains"]), data=data["tiny_domains"], output=str(tmp_path), count=2)
    names = {Path(path).name for path in sample.run(options)}
    assert names == {"samples-prior.png", "transfer.png", "interpolation.png", "style-map.png"}


@pytest.mark.parametrize(
    ("name", "figure"),
    [("tiny_classes", "median_error"), ("tiny_text", "vqa_overall"), ("tiny_domains", "prior/precision_vgg_k3")],
)
def test_the_measures_that_fit_are_taken(
    name: str, figure: str, data: dict[str, str], trained: dict[str, Path], tmp_path: Path
) -> None:
    options = {"weights": "random", "net": "vgg19", "layers": ("relu1_1",), "inputs": 2, "samples": 2}
    found = evaluate.run(
        evaluate.Config(run=str(trained[name]), data=data[name], output=str(tmp_path), **options)  # type: ignore[arg-type]
    )
    assert np.isfinite(float(found[figure]))
    if name == "tiny_text":
        assert found["vqa_overall"] == 100 and "weights" not in storage.read_json(str(tmp_path / "evaluation.json"))


def test_the_package_answers_rows_of_any_kind(trained: dict[str, Path], tmp_path: Path) -> None:
    import pandas as pd

    from pipeline.runs.serving import Server

    made: dict[str, Server] = {}
    for name in NAMES:
        package.save(str(trained[name]), str(tmp_path / name))
        made[name] = Server()
        context = type("Context", (), {"artifacts": {"run": str(tmp_path / name / "artifacts" / trained[name].name)}})
        [folder] = (tmp_path / name / "artifacts").iterdir()
        context.artifacts["run"] = str(folder)  # type: ignore[attr-defined]
        made[name].load_context(context)
    questions = pd.DataFrame({"question": ["the cow", "a dog"]})
    assert made["tiny_text"].predict(None, questions) == [["cow"], ["dog"]]
    [[first], [second]] = made["tiny_classes"].predict(None, [{"class": "dark"}, {"class": "light"}])
    assert first != second
    with pytest.raises(ValueError, match="tiny_classes reads class: class is missing"):
        made["tiny_classes"].predict(None, [{"question": "x"}])


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_job(name: str, sources: dict[str, dict[str, Any]], tmp_path: Path, no_ray: None) -> None:
    recipe = models.load(name).PRESETS["tiny"]
    config = train.command_line(run.Config, recipe)(
        recipe=recipe, output=str(tmp_path), weights="random", tracking="off", run=QUIET, **sources[name]
    )
    assert run.run(name, config)["images"] >= 6
    assert (tmp_path / "evaluation" / "evaluation.json").exists() and any((tmp_path / "samples").iterdir())


def test_data_that_lack_a_field_are_refused_before_anything_is_built(data: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no field 'question', only class, target"):
        fit(job("tiny_text", {"tiny_text": data["tiny_classes"]}, tmp_path))
    with pytest.raises(ValueError, match="--rarity: family tiny_classes has no use for it"):
        fit(job("tiny_classes", data, tmp_path, artifacts={"rarity": "x"}))
