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
from pipeline.data.order import picks
from pipeline.evaluation import measures
from pipeline.evaluation.measures import fitting, measure
from pipeline.evaluation.measures.pictures import Samples
from pipeline.evaluation.measures.sets import Likelihood, WholeSet
from pipeline.evaluation.measures.texts import Answering, Retrieval
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
        if field == "choices":
            return [["no", "maybe", "2"]] * 7
        return [["yes"] * i + ["no"] * (10 - i) for i in range(7)]


class Fixed(Setting):
    def each(self, field: str, size: int = 3) -> Any:
        return self.batches(size)

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
        "reconstruction": "needs a family that reconstructs a target from its own code",
        "samples": "needs a family that draws samples",
        "attention": "needs a family that shows what it attends to",
        "classifier": "needs a family that draws samples",
        "truths": "needs a family that draws samples",
        "modes": "needs a family that draws points",
    }
    _, why = fitting(setting(Several(), target="labels"))
    assert why["likelihood"] == "the data set has no field target (image)"
    with pytest.raises(ValueError, match="nothing to measure: reconstruction: needs a family that"):
        measure(setting(Nothing(), target="image"))


def test_no_weights_are_loaded_that_no_measure_asks_for() -> None:
    asked = setting(Several(), target="image", answers="answers")
    figures = measure(asked).figures  # the weights' file does not exist
    assert figures["images"] == 7.0 and figures["rows"] == 7.0 and asked.notes == {}


def test_bits_per_dimension() -> None:
    found = Likelihood()(setting(Several(), target="image")).figures
    assert found["nats"] == pytest.approx(sum(range(1, 8)) / 7)
    assert found["bits_per_dimension"] == pytest.approx(4 / (12 * math.log(2)))


COLOURS = torch.tensor(
    [[-0.9, -0.9, -0.9], [0.9, -0.9, 0.9], [0.9, 0.9, -0.9], [0.0, 0.0, 0.9], [0.9, 0, 0], [0, 0.9, 0]]
)
"""Of six plain pictures, far from each other."""
SPREAD = 0.05 * torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]])


class Painter(Family):
    """Four samples around an input's own colour; for one of the inputs, around no picture's."""

    samplers = ("prior",)
    reads = ()
    wrong = -1

    def sample(self, given: Batch, count: int, generator: torch.Generator, sampler: str = "") -> Tensor:
        middle = COLOURS[given["index"]].clone()
        middle[given["index"] == self.wrong] = -0.3
        colours = middle[:, None] + SPREAD[torch.arange(count) % len(SPREAD)]
        return colours[..., None, None].expand(-1, -1, -1, 4, 4)


def in_a_ball(points: Tensor, centres: Tensor, k: int = 3) -> list[bool]:
    """Whether each point lies within a centre's distance to its k-th nearest other, by loops."""
    found = []
    for point in points:
        near = []
        for i, centre in enumerate(centres):
            others = sorted(float((centre - c).norm()) for j, c in enumerate(centres) if j != i)
            near.append(float((point - centre).norm()) <= others[k - 1])
        found.append(any(near))
    return found


def density_and_coverage(real: Tensor, fake: Tensor, k: int) -> tuple[float, float]:
    """Balls of the real ones that hold a fake: mean over the fakes / k; share with any, by loops."""
    inside = []
    for i, centre in enumerate(real):
        others = sorted(float((centre - c).norm()) for j, c in enumerate(real) if j != i)
        inside.append([float((one - centre).norm()) < others[k - 1] for one in fake])
    return sum(map(sum, inside)) / (k * len(fake)), sum(map(any, inside)) / len(real)


def test_precision_and_recall_are_of_all_inputs_and_of_m_samples_of_the_chosen_ones() -> None:
    family = Painter()
    made = setting(family, target="image")
    made.options = Options(inputs=3, samples=4, sheet=0)
    made.data.labels = [None] * 6  # type: ignore[assignment]
    pictures = COLOURS[..., None, None].expand(-1, -1, 4, 4)
    vgg = SimpleNamespace(layers=("x",))
    by_colour = type("Colours", (SimpleNamespace,), {"__call__": lambda self, images: {"x": images}})(**vars(vgg))
    given: dict[str, Any] = {"pairs": {"index": torch.arange(6), "target": pictures}, "distances": {}}
    made.__dict__.update(given, _network=(by_colour, None))
    chosen = picks(6, 3)
    family.wrong = chosen[1]
    figures, one, _ = Samples._one(made, "prior")
    seen = torch.cat([family.sample({"index": torch.tensor([i])}, 4, torch.Generator())[0] for i in chosen])
    covered = in_a_ball(COLOURS[chosen], seen.mean((2, 3)))
    assert covered == [True, False, True]
    assert figures["recall_vgg_k3_of_4"] == pytest.approx(2 / 3)
    assert sum(in_a_ball(COLOURS, seen.mean((2, 3)))) / 6 == pytest.approx(1 / 3)  # of all six it would be this
    drawn = one.mean((2, 3))
    assert figures["recall_vgg_k3"] == pytest.approx(sum(in_a_ball(COLOURS, drawn)) / 6)
    assert figures["precision_vgg_k3"] == pytest.approx(sum(in_a_ball(drawn, COLOURS)) / 6)
    density, covered_share = density_and_coverage(COLOURS, drawn, 5)
    assert figures["density_vgg_k5"] == pytest.approx(density)
    assert figures["coverage_vgg_k5"] == pytest.approx(covered_share)


def test_answers_against_a_loop() -> None:
    found = Answering()(setting(Several(), answers="answers")).figures
    accuracies = []
    for i in range(7):
        given, said = ["yes"] * i + ["no"] * (10 - i), Several.answers[i % 3]
        left_out = [[g for k, g in enumerate(given) if k != one] for one in range(10)]
        accuracies.append(sum(min(nine.count(said) / 3, 1) for nine in left_out) / 10)
    assert 0 < sum(accuracies) < 7 and 0.9 in accuracies  # not the simple min(3 / 3, 1)
    assert found["vqa_overall"] == pytest.approx(100 * sum(accuracies) / 7, abs=0.005)


def test_multiple_choice_takes_the_best_scored_choice() -> None:
    found = Answering()(setting(Several(), answers="answers", choices="answers")).figures
    said = ["no" if i % 3 != 2 else "2" for i in range(7)]  # "yes" is no choice: the first of the others
    accuracies = []
    for i, answer in enumerate(said):
        given = ["yes"] * i + ["no"] * (10 - i)
        left_out = [[g for k, g in enumerate(given) if k != one] for one in range(10)]
        accuracies.append(sum(min(nine.count(answer) / 3, 1) for nine in left_out) / 10)
    assert found["vqa_multiple_choice"] == pytest.approx(100 * sum(accuracies) / 7, abs=0.005)
    assert found["vqa_multiple_choice"] != found["vqa_overall"]


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
