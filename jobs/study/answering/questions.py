"""The questions of VQA alone: priors, nearest questions, BoW Q and LSTM Q."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

import models.vqa
from jobs.study.answering.sets import Row, Set, Table, read, train
from models.common.seeds import seeded
from models.vqa import Answerers, Matcher
from pipeline.data.kinds.tokens import words
from pipeline.data.sources import vqa
from pipeline.evaluation import priors
from pipeline.evaluation.vqa import Accuracies, Truth, report

TRAINED: dict[str, dict[str, Any]] = {
    "bow-q": {"batch": 100, "rate": 5e-4},
    "lstm-q": {"batch": 100, "rate": 5e-4, "mlp": ()},
}
"""Preset -> what differs from it, as there are few questions; chosen on split valid. Behind two hidden layers the LSTM
learns little more than the types of questions in so few steps; the released code has none."""
NEAREST = (1, 4, 16, 64)
"""Numbers of neighbours of which split valid chooses."""


def opened(folder: str) -> vqa.Questions:
    """The questions of VQA v2's subset: train, valid (here val) and test."""
    names = {"train": "train", "val": "valid", "test": "test"}
    return vqa.Questions(
        folder, vqa.Options(**{s: f"vqa_questions_{n}.gzip,vqa_annotatons_{n}.gzip" for s, n in names.items()})
    )


def truths_of(source: vqa.Questions, split: str) -> list[Truth]:
    """What people answered."""
    return [
        Truth(a["question_id"], tuple(x["answer"] for x in a["answers"]), a["question_type"], a["answer_type"])
        for q in source.splits[split][0]
        for a in [source.splits[split][1][q["question_id"]]]
    ]


def said(truths: Sequence[Truth], answers: Sequence[str]) -> Accuracies:
    """The official figures of one answer a question."""
    return report({truth.question: answer for truth, answer in zip(truths, answers, strict=True)}, truths)


def row_of(one: Accuracies) -> Row:
    return {"all": one.overall, **one.by_answer_type}


@torch.no_grad()
def answered(family: Answerers, some: Set) -> list[str]:
    best = torch.cat([family.answer(some.part(rows)).argmax(1) for rows in torch.split(torch.arange(len(some)), 500)])
    return [family.answers[int(i)] for i in best]


def without_network(source: vqa.Questions, table: Table) -> dict[str, list[float]]:
    """The priors' and the nearest neighbours' figures on test; returns overall figures by name."""
    truths, rows = truths_of(source, "test"), list(source.splits["train"][1].values())
    answers = [row["multiple_choice_answer"] for row in rows]
    by_type = priors.type_priors([row["question_type"] for row in rows], answers)
    most, top = priors.prior(answers), priors.top_answers(answers, 1000)
    guesses = {
        "random": priors.random_answers(top, len(truths), seeded(0, "random")),
        "prior yes": [most] * len(truths),
        "prior per type": [by_type.get(truth.question_type, most) for truth in truths],
    }
    found = {}
    for name, guess in guesses.items():
        found[name] = table.row(name, {}, lambda _, guess=guess: row_of(said(truths, guess)), (0,))["all"]  # type: ignore[misc]
    found["nearest"] = table.row("nearest", {"of": NEAREST}, lambda _: _nearest(source), (0,))["all"]
    return found


def _nearest(source: vqa.Questions) -> Row:
    """The nearest questions' most frequent answer, of as many as are best on valid."""
    asked = {split: [words(q["question"]) for q in questions] for split, (questions, _) in source.splits.items()}
    annotations = source.splits["train"][1]
    answers = [annotations[q["question_id"]]["multiple_choice_answer"] for q in source.splits["train"][0]]
    figures: dict[str, dict[int, Accuracies]] = {}
    for split in ("val", "test"):
        places, similarities = priors.neighbours(asked["train"], asked[split], max(NEAREST))
        truths = truths_of(source, split)
        figures[split] = {
            k: said(
                truths,
                [
                    priors.neighbours_answer([answers[i] for i in row[:k]], values[:k])
                    for row, values in zip(places.tolist(), similarities.tolist(), strict=True)
                ],
            )
            for k in NEAREST
        }
    best = max(NEAREST, key=lambda k: figures["val"][k].overall)
    return {**row_of(figures["test"][best]), "k": float(best), "valid": figures["val"][best].overall}


@dataclass(frozen=True)
class Judged:
    """Questions of a split with what people answered."""

    questions: Set
    truths: list[Truth]

    def figures(self, family: Answerers | Matcher) -> Accuracies:
        assert isinstance(family, Answerers)
        return said(self.truths, answered(family, self.questions))


def trained(source: vqa.Questions, names: Sequence[str], passes: int, table: Table) -> dict[str, float]:
    """Presets that see the question alone: mean accuracy on test with the weights of the pass that was best on
    valid."""
    listed, found = source.samples(), {}
    for name in names:
        preset = replace(models.vqa.PRESETS[name], **TRAINED[name])
        specs = models.vqa.fields(preset)
        training = read(source, listed["train"], specs, None)
        valid, test = (
            Judged(read(source, listed[split], specs, training.facts), truths_of(source, split))
            for split in ("val", "test")
        )
        preset = replace(preset, questions=passes * len(training))
        measure = partial(_best_pass, preset, passes, training, valid, test)
        figures = table.row(name, {"preset": preset, "passes": passes}, measure)
        found[name] = round(statistics.mean(figures["all"]), 2)
    return found


def _best_pass(preset: models.vqa.Config, passes: int, training: Set, valid: Judged, test: Judged, seed: int) -> Row:
    family, figures = train(replace(preset, seed=seed), training, lambda now: valid.figures(now).overall, passes)
    best = max(figures)
    return {**row_of(test.figures(family)), "valid": best, "passes": float(figures.index(best) + 1)}
