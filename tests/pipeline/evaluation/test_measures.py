"""Measures are taken by ability and field, each against a loop; nothing is loaded that none asks for."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from models.abilities import (
    Answers,
    DrawsSamples,
    Embeds,
    EncodesStyle,
    GivesLikelihood,
    JudgesSet,
    Reconstructs,
    can,
    require,
)
from models.family import Batch, Family
from pipeline.evaluation import measures
from pipeline.evaluation.measures import Answering, Likelihood, Retrieval, WholeSet, fitting, measure
from pipeline.evaluation.setting import Options, Setting
from pipeline.runs.sampler import Trained


class Nothing(Family):
    """Has no ability."""


class Several(Family):
    """Likelihood, answers, two embedded fields."""

    answers = ("yes", "no", "2")
    embedded = ("image", "caption")

    def log_prob(self, batch: Batch) -> Tensor:
        return -batch["index"].double() - 1

    def dimensions(self) -> int:
        return 12

    def answer(self, given: Batch) -> Tensor:
        scores = torch.zeros(len(given["index"]), 3)
        scores[torch.arange(len(scores)), given["index"] % 3] = 1
        return scores

    def embed(self, batch: Batch, field: str) -> Tensor:
        return torch.stack(
            [
                torch.randn(4, generator=torch.Generator().manual_seed(i * 7 + len(field)))
                for i in batch["index"].tolist()
            ]
        )

    def judge(self, batches: Any) -> dict[str, float]:
        return {"rows": float(sum(len(b["index"]) for b in batches))}


class Data:
    """Seven samples without pictures."""

    split = "val"

    def __init__(self, **kinds: str) -> None:
        self.fields = {name: SimpleNamespace(kind=kind) for name, kind in kinds.items()}

    def __len__(self) -> int:
        return 7

    def column(self, field: str) -> list[list[str]]:
        return [["yes"] * i + ["no"] * (10 - i) for i in range(7)]


class Fixed(Setting):
    def batches(self, size: int = 3) -> Any:
        for start in range(0, self.count, size):
            index = torch.arange(start, min(start + size, self.count))
            counts = torch.zeros(len(index), 3)
            counts[:, 0] = index.float()  # so many people say yes
            yield {"index": index, "answers": counts}


def setting(family: Family, **kinds: str) -> Setting:
    run = Trained("test", family, {}, None, {"inputs": {}})  # type: ignore[arg-type]
    return Fixed(run, "", Data(**kinds), "", Options(weights="/there/is/none.pth"))  # type: ignore[arg-type]


def test_abilities_are_the_methods() -> None:
    several = Several()
    assert all(isinstance(several, one) for one in (GivesLikelihood, Answers, Embeds, JudgesSet))
    assert not any(isinstance(several, one) for one in (DrawsSamples, Reconstructs, EncodesStyle))
    assert can(Nothing()) == [] and "gives a likelihood" in can(several)
    assert require(several, Embeds, "x") is several
    with pytest.raises(ValueError, match=r"jobs\.sample needs a family that draws samples; this one: gives a likeli"):
        require(several, DrawsSamples, "jobs.sample")


def test_what_fits_is_taken_and_the_rest_says_why() -> None:
    fit, why = fitting(setting(Several(), target="image", answers="answers"))
    assert {type(one) for one in fit} == {Likelihood, Answering, Retrieval, WholeSet}
    assert why == {
        "reconstruction": "the family is none that reconstructs a target from its own code",
        "samples": "the family is none that draws samples",
        "classifier": "the family is none that draws samples",
        "modes": "the family is none that draws points",
    }
    _, why = fitting(setting(Several(), target="labels"))
    assert why["likelihood"] == "the data set has no field target (image)"
    with pytest.raises(ValueError, match="nothing to measure: reconstruction: the family is none"):
        measure(setting(Nothing(), target="image"))


def test_no_weights_are_loaded_that_no_measure_asks_for() -> None:
    asked = setting(Several(), target="image", answers="answers")
    figures = measure(asked).figures  # the weights' file does not exist
    assert figures["images"] == 7.0 and figures["rows"] == 7.0 and asked.notes == {}


def test_bits_per_dimension() -> None:
    found = Likelihood()(setting(Several(), target="image")).figures
    assert found["nats"] == pytest.approx(sum(range(1, 8)) / 7)
    assert found["bits_per_dimension"] == pytest.approx(4 / (12 * math.log(2)))


def test_answers_against_a_loop() -> None:
    found = Answering()(setting(Several(), answers="answers")).figures
    accuracies = []
    for i in range(7):
        given, said = ["yes"] * i + ["no"] * (10 - i), Several.answers[i % 3]
        left_out = [[g for k, g in enumerate(given) if k != one] for one in range(10)]
        accuracies.append(sum(min(nine.count(said) / 3, 1) for nine in left_out) / 10)
    assert 0 < sum(accuracies) < 7 and 0.9 in accuracies  # not the simple min(3 / 3, 1)
    assert found["vqa_overall"] == pytest.approx(100 * sum(accuracies) / 7, abs=0.005)


def test_retrieval_against_a_loop() -> None:
    family = Several()
    found = Retrieval()(setting(family)).figures
    index = {"index": torch.arange(7)}
    sides = {name: family.embed(index, name).double() for name in family.embedded}
    for queries, pool in (("image", "caption"), ("caption", "image")):
        ranks = []
        for i in range(7):
            scores = [float(sides[queries][i] @ sides[pool][j]) for j in range(7)]
            ranks.append(1 + sum(s > scores[i] for s in scores))
        for k in (1, 5, 10):
            assert found[f"recall{k}_{pool}"] == pytest.approx(sum(r <= k for r in ranks) / 7)
        assert found[f"median_rank_{pool}"] == sorted(ranks)[3]
    assert {m.name for m in measures.MEASURES} >= {"samples", "retrieval", "set"}


def test_equal_vectors_find_nothing() -> None:
    class Equal(Several):
        def embed(self, batch: Batch, field: str) -> Tensor:
            return torch.ones(len(batch["index"]), 4)

    found = Retrieval()(setting(Equal())).figures
    assert found["recall1_caption"] == found["recall5_image"] == 0 and found["median_rank_image"] == 7
