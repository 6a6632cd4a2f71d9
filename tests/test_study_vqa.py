"""What the study of question answering measures with."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import models.vqa
from jobs.study import vqa as study
from jobs.study.answering import scenes, sentences
from jobs.study.answering.sets import Set, Table, evened, read, train, with_pictures
from models.family import FieldSpec
from models.vqa import Answerers
from models.vqa.attention import Maps
from pipeline.data.sources import shapes


@pytest.fixture
def some() -> Set:
    source = shapes.Shapes(shapes.Options(count=8, held_out=4))
    entries = source.samples()["train"]
    specs = {name: FieldSpec(kind) for name, kind in (("question", "tokens"), ("answers", "answers"), ("box", "array"))}
    found = with_pictures(read(source, entries, specs, None), torch.rand(8, 4, 4, 3))
    found.batch["about_one"] = torch.tensor([1, 0, 0, 1] * 2)
    return found


def test_share_of_attention_in_the_box(some: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    family, _ = train(replace(models.vqa.PRESETS["tiny"], questions=8), some)
    assert isinstance(family, Answerers)
    rows = torch.nonzero(some.batch["about_one"])[:, 0]
    area = ((some.batch["box"][rows, 2:] - some.batch["box"][rows, :2]).prod(1)).mean()

    def looking(weights: torch.Tensor) -> tuple[float, float]:
        """(share in the box, by chance) of one step."""
        monkeypatch.setattr(family, "scores", lambda batch: (None, Maps(weights[:, None], weights[:, None])))
        [share], chance = scenes.on_object(family, some)
        return share, chance

    assert looking(torch.full((len(rows), 16), 1 / 16)) == pytest.approx((float(area), float(area)), rel=1e-5)
    middle = some.batch["box"][rows].view(-1, 2, 2).mean(1)
    cell = (middle * 4).long().clamp(0, 3)
    onto = torch.zeros(len(rows), 16).scatter_(1, (cell[:, 0] * 4 + cell[:, 1])[:, None], 1.0)
    assert looking(onto)[0] > 3 * looking(onto)[1]


def test_training_is_a_function_of_the_seed(some: Set) -> None:
    recipe = replace(models.vqa.PRESETS["tiny"], questions=12)
    first, again, other = (train(replace(recipe, seed=seed), some)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_the_weights_of_the_best_judged_pass_are_kept(some: Set) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def judge(family: torch.nn.Module) -> float:
        seen.append({name: value.clone() for name, value in family.state_dict().items()})
        return (1.0, 3.0, 2.0)[len(seen) - 1]

    family, figures = train(replace(models.vqa.PRESETS["tiny"], questions=24), some, judge, 3)
    assert figures == [1.0, 3.0, 2.0]
    for name, value in family.state_dict().items():
        assert torch.equal(value, seen[1][name])
    assert any(not torch.equal(seen[1][name], seen[2][name]) for name in seen[1])


def test_rows_are_kept_by_seed_and_settings(tmp_path: Path) -> None:
    measured: list[int] = []

    def measure(seed: int) -> dict[str, float]:
        measured.append(seed)
        return {"all": 10.0 * seed}

    recipe = models.vqa.PRESETS["tiny"]
    table = Table(str(tmp_path), (1, 2))
    assert table.row("a", {"preset": recipe}, measure)["all"] == [10.0, 20.0]
    again = Table(str(tmp_path), (2, 3))
    assert again.row("a", {"preset": recipe}, measure)["all"] == [20.0, 30.0] and measured == [1, 2, 3]
    assert again.row("a", {"preset": replace(recipe, rate=0.5)}, measure)["all"] == [20.0, 30.0]
    assert measured == [1, 2, 3, 2, 3]
    assert Table("", (1,)).row("a", {}, measure)["all"] == [10.0]


def test_features_are_evened_by_the_training_split() -> None:
    found = evened({"train": torch.full((2, 3), 8.0), "test": torch.full((2, 3), 4.0)})
    assert float(found["train"].mean()) == pytest.approx(0.4) and float(found["test"].mean()) == pytest.approx(0.2)


def test_both_ways_counts_any_of_an_image_s_sentences() -> None:
    images, texts = torch.eye(3), torch.cat([torch.eye(3)[[1, 2, 0]], torch.eye(3)])  # the first of each is wrong
    found = sentences.both_ways(images, texts, torch.arange(3).repeat(2))
    assert found["text_recall5"] == 100 and found["image_recall1"] == pytest.approx(50)


def test_figures_of_what_is_not_named_are_null() -> None:
    assert study.run(study.Config()) == dict.fromkeys(study.FIGURES)
