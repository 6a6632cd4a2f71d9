"""The families' steps: they learn, two workers take the step of one, a loaded state goes on bit for bit."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from models import abilities, vqa
from models.common.seeds import seeded
from models.family import Batch, Facts
from models.group import Group
from models.vqa import Answerers, Config, Matcher
from models.vqa.losses import agreement, answer_loss
from models.vqa.steps import rate
from models.vqa.training import check

WORDS = [f"w{i}" for i in range(12)]
FACTS = Facts(
    32,
    {
        "question": {"words": WORDS, "openers": [["w0", "w1"], ["w2"], []]},
        "caption": {"words": WORDS},
        "answers": {"answers": ["yes", "no", "red", "2"]},
        "grid": {"shape": [2, 3, 5]},
        "vector": {"shape": [5]},
    },
)
SMALL = replace(
    vqa.PRESETS["tiny"], optimiser="rmsprop", rate=0.01, hidden=8, embedding=8, joint=8, mlp=(8,), longest=6
)


def small(name: str) -> Config:
    preset = vqa.PRESETS[name]
    kinds = {k: getattr(preset, k) for k in ("network", "question", "image", "fusion", "layers", "direct")}
    joint = 16 if preset.direct else 8
    return replace(SMALL, **kinds, dropout_inputs=preset.dropout_inputs, uniform=preset.uniform, joint=joint)


def rows(seed: int, count: int = 8) -> Batch:
    """Questions of which the first word decides the answer."""
    generator = seeded(seed)
    lengths = torch.randint(1, 6, (count,), generator=generator)
    tokens = torch.randint(2, 14, (count, 6), generator=generator)
    tokens[torch.arange(6) >= lengths[:, None]] = 0
    counts = torch.zeros(count, 4)
    counts[torch.arange(count), tokens[:, 0] % 4] = 7
    counts[0] = 0  # nobody gave an answer of the vocabulary
    grid = torch.randn(count, 2, 3, 5, generator=generator)
    found: Batch = {"question": tokens, "question_length": lengths, "caption": tokens, "caption_length": lengths}
    return {**found, "answers": counts, "grid": grid, "vector": grid.mean((1, 2)), "index": torch.arange(count)}


def built(recipe: Config) -> Answerers | Matcher:
    family = vqa.build(recipe, Group(alone=True), None, FACTS)
    family.enter("main")
    return family


def feed(start: int = 0) -> Callable[[str], Batch]:
    drawn = iter(range(start, 10_000))
    return lambda _: rows(next(drawn))


NAMES = [name for name in vqa.PRESETS if name not in ("tiny", "tiny-bow-q")]


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_steps_and_a_loaded_state_goes_on_bit_for_bit(name: str) -> None:
    recipe = small(name)
    whole, first, second = built(recipe), built(recipe), built(recipe)
    draw = feed()
    for step in range(4):
        whole.update(draw, 4 * step)
    draw = feed()
    for step in range(2):
        first.update(draw, 4 * step)
    second.load_state_dict(first.state_dict())
    second.load_training_state(first.training_state())
    for step in range(2, 4):
        second.update(draw, 4 * step)
    for (key, a), b in zip(whole.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    assert whole.training_state()["adam"]["main"].keys() == second.training_state()["adam"]["main"].keys()


@pytest.mark.parametrize("name", ["bow-q", "lstm-q", "deeper-lstm-q-norm-i-released", "r-dan"])
def test_it_learns_what_the_question_says(name: str) -> None:
    easy = replace(small(name), dropout=0.0, dropout_inputs=0.0, rate=0.02, hidden=16, joint=16, mlp=(16,), common=12)
    family, draw = built(replace(easy, uniform=0.5 if easy.uniform else 0.0)), feed()
    assert isinstance(family, Answerers)
    for step in range(250):
        family.update(draw, 4 * step)
    wrong = family.evaluate({k: v[1:] for k, v in rows(99_999, 200).items()})["disagreement"]
    assert wrong < 0.4  # by chance 0.75


def test_matching_learns_and_is_judged() -> None:
    def pairs(_: str) -> Batch:
        batch = rows(next(numbers))
        batch["grid"] = batch["grid"] * 0.1 + torch.eye(5)[batch["caption"][:, 0] % 5][:, None, None]
        return batch

    numbers = iter(range(10_000))
    family = built(replace(small("m-dan"), margin=1.0, dropout=0.0))
    assert isinstance(family, Matcher)
    before = family.evaluate(pairs(""))["loss"]
    losses = [float(family.update(pairs, 8 * step)["loss"]) for step in range(150)]
    assert before > 1.5 and sum(losses[-20:]) / 20 < 0.8
    judged = family.judge([pairs("")])
    assert set(judged) == {f"recall{k}_{way}" for k in (1, 5, 10) for way in ("caption_of_image", "image_of_caption")}
    assert judged["recall10_caption_of_image"] == 1  # eight samples
    with pytest.raises(ValueError, match="field question"):
        family.embed(pairs(""), "question")


class Rank(Group):
    """One of two workers, whose gather is given."""

    def __init__(self, rank: int, whole: Callable[[Tensor], Tensor]) -> None:
        super().__init__(alone=True)
        self.rank, self.world, self._whole = rank, 2, whole

    def gather(self, x: Tensor) -> Tensor:
        return self._whole(x)


@pytest.mark.parametrize("name", ["deeper-lstm-q-norm-i-released", "r-dan"])
def test_two_workers_have_the_gradient_of_one(name: str) -> None:
    """Each takes half of the rows, its share of the masks, and the global number of counted questions."""
    recipe = replace(small(name), clip_norm=0.0, clip_value=0.0, dropout=0.5)
    batch = rows(5)
    known = (batch["answers"].sum(1) > 0).sum()

    def gradient(group: Group, part: Batch) -> list[Tensor]:
        family = vqa.build(recipe, Group(alone=True), None, FACTS).double()
        family.group = group
        family.enter("main")
        kept: list[Tensor] = []
        family.optimisers["main"].step = lambda: kept.extend(p.grad.clone() for p in family.parameters())  # type: ignore[method-assign, assignment, union-attr, return-value, misc]
        family.update(lambda _: {k: v.double() if v.is_floating_point() else v for k, v in part.items()}, 0)
        return kept

    whole = gradient(Group(alone=True), dict(batch))
    halves = [
        gradient(Rank(rank, lambda x: known[None]), {k: v.chunk(2)[rank] for k, v in batch.items()})
        for rank in range(2)
    ]
    largest = max(float(g.abs().max()) for g in whole)
    for one, a, b in zip(whole, *halves, strict=True):
        assert float((one - (a + b) / 2).abs().max()) < 1e-9 * largest
    assert largest > 0


def test_rates_follow_the_papers() -> None:
    released = vqa.PRESETS["deeper-lstm-q-norm-i-released"]
    assert rate(released, 500) == pytest.approx(3e-4 * 0.99997592083, rel=1e-7)
    assert rate(released, 50_000 * 500) == pytest.approx(3e-4 * 0.3, rel=0.001)
    dan = vqa.PRESETS["r-dan"]
    assert rate(dan, 0) == 0.1 and rate(dan, 30 * 369_861) == pytest.approx(0.01)
    assert rate(vqa.PRESETS["bow-q"], 10**7) == 3e-4


def test_released_and_paper_networks_have_their_sizes() -> None:
    facts = Facts(
        1, {**FACTS.fields, "vector": {"shape": [4096]}, "answers": {"answers": [str(i) for i in range(1000)]}}
    )

    def parameters(name: str) -> int:
        return sum(p.numel() for p in vqa.build(vqa.PRESETS[name], Group(alone=True), None, facts).parameters())

    def layer(i: int, o: int) -> int:
        return i * o + o

    def lstm(i: int) -> int:
        return 4 * 512 * (i + 512 + 2)  # two biases

    joint = layer(4096, 1024) + layer(2048, 1024)
    words = len(WORDS) + 2
    mlp = layer(1024, 1000) + layer(1000, 1000) + layer(1000, 1000)
    assert parameters("deeper-lstm-q-norm-i") == words * 300 + lstm(300) + lstm(512) + joint + mlp
    released = words * 200 + lstm(200) + lstm(512) + joint + layer(1024, 1000)
    assert parameters("deeper-lstm-q-norm-i-released") == released
    assert parameters("lstm-q-i") == words * 300 + lstm(300) + layer(4096, 1024) + mlp  # the question has no layer


@pytest.mark.parametrize("name", ["bow-q", "lstm-q", "deeper-lstm-q-norm-i", "r-dan"])
def test_a_question_without_a_known_word_is_answered(name: str) -> None:
    family, batch = built(small(name)), rows(3)
    assert isinstance(family, Answerers)
    batch["question"] = (batch["question"] > 0).long()  # 1: unknown
    found = family.answer(batch).detach()
    assert bool(torch.isfinite(found).all())
    if name == "bow-q":
        assert float((found - found[0]).abs().max()) == 0  # no word is counted


def test_an_answer_without_a_majority_counts_as_the_more_frequent_one() -> None:
    scores = torch.randn(1, 4, generator=seeded(1))
    total, known = answer_loss(scores, torch.tensor([[3.0, 5, 5, 2]]))  # in order of frequency: the first of the two
    assert int(known) == 1 and float(total) == pytest.approx(-float(scores.log_softmax(1)[0, 1]), rel=1e-6)


def test_questions_without_a_known_answer_do_not_count() -> None:
    scores, counts = torch.randn(3, 4, generator=seeded(1)), torch.tensor([[0, 3.0, 7, 0], [0, 0, 0, 0], [10, 0, 0, 0]])
    total, known = answer_loss(scores, counts)
    logs = scores.log_softmax(1)
    assert int(known) == 2 and float(total) == pytest.approx(-float(logs[0, 2] + logs[2, 0]), rel=1e-6)


@pytest.mark.parametrize(("n", "wanted"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_agreement_is_the_leave_one_out_accuracy(n: int, wanted: float) -> None:
    counts = torch.tensor([[float(n), 0.0]])
    assert float(agreement(torch.tensor([[1.0, 0.0]]), counts)[0]) == pytest.approx(wanted, abs=1e-6)


def test_abilities_and_pictures() -> None:
    dan, matcher, blind = built(small("r-dan")), built(small("m-dan")), built(small("bow-q"))
    assert "answers questions" in abilities.can(dan) and "answers questions" not in abilities.can(matcher)
    assert "embeds two fields in one space" in abilities.can(matcher)
    batch = {**rows(1), "image": torch.rand(8, 3, 12, 18, generator=seeded(2)) * 2 - 1}
    columns = dan.preview(batch, torch.Generator())
    assert list(columns) == ["image", "step 1: image", "step 1: words", "step 2: image", "step 2: words"]
    assert all(c.shape == (8, 3, 12, 18) and float(c.min()) >= -1 and float(c.max()) <= 1 for c in columns.values())
    assert len(matcher.preview(batch, torch.Generator())) == 5 and blind.preview(batch, torch.Generator()) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "none"}, "--fusion none: with --question lstm and --image norm give concatenation or product"),
        ({"question": "none"}, "--fusion product: with --question none and --image norm give none"),
        ({"question": "none", "image": "none", "fusion": "none"}, "would see nothing"),
        ({"dropout": 1.0}, r"--dropout 1\.0: give a share below 1"),
        ({"layers": 0}, "--layers 0"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(replace(vqa.PRESETS["deeper-lstm-q-norm-i"], **changes), None)
