"""Question answering measured: the official metric, priors, questions alone, made-up shapes, captions.

`--data` is a folder of VQA v2's JSON (official_metric_vectors.json beside it), `--captions` a list of Flickr captions,
`--weights` and `--squeezenet` checkpoints for the features of pictures. What is not named is left out: its figures are
null.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import models.vqa
from jobs.study.answering import scenes, sentences
from jobs.study.answering.sets import Set, read, told, train
from models.common.seeds import seeded
from models.vqa import Answerers, priors
from pipeline.data.sources import vqa
from pipeline.evaluation.vqa import Accuracies, Truth, report


@dataclass(frozen=True)
class Config:
    """What is measured, and how long is trained."""

    data: str = ""
    """Folder of VQA v2's JSON with splits train, valid, test; none: left out."""
    captions: str = ""
    """Flickr's list, images/ beside it; none: left out."""
    weights: str = ""
    """VGG-19 checkpoint in torchvision's names, to relu3_1 at least, for the shapes; none: left out."""
    squeezenet: str = ""
    """SqueezeNet 1.1 checkpoint in torchvision's names, for the captions' photographs; none: left out."""
    seeds: tuple[int, ...] = (0, 1, 2)
    questions: tuple[str, ...] = ("bow-q", "lstm-q")
    """Presets trained on the questions alone."""
    passes: int = 4
    """Over the questions."""
    scenes: int = 3000
    """Made-up training pictures."""
    scene_passes: int = 8
    caption_passes: int = 20
    margin: float = 25.0
    """m-DAN's: the paper's 100 is for vectors of 512 numbers, here they have 128."""
    threads: int = 1


FIGURES = (
    "metric_vectors_wrong",
    "prior_yes",
    "prior_per_type",
    "bow_q",
    "synthetic_image_gain",
    "attention_on_object",
    "recall5_caption",
    "recall5_chance",
)


def run(config: Config) -> dict[str, Any]:
    """The figures, by name; the rows of the table are printed as they come."""
    torch.set_num_threads(config.threads)
    found: dict[str, Any] = dict.fromkeys(FIGURES)
    if config.data:
        found |= _metric(Path(config.data)) | _questions(config)
    if config.weights:
        found |= scenes.measure(config.weights, config.scenes, config.scene_passes, config.seeds)
    if config.squeezenet and config.captions:
        found |= sentences.measure(
            config.captions, config.squeezenet, config.caption_passes, config.margin, config.seeds
        )
    return found


def _metric(folder: Path) -> dict[str, Any]:
    cases = json.loads((folder / "official_metric_vectors.json").read_text())["cases"]
    truths = [Truth(c["question_id"], tuple(c["answers"]), c["question_type"], c["answer_type"]) for c in cases]
    found = report({c["question_id"]: c["prediction"] for c in cases}, truths).each
    wrong = sum(found[c["question_id"]] != c["official_accuracy_pct"] for c in cases)
    print(f"official metric: {wrong} of {len(cases)} vectors wrong", flush=True)
    return {"metric_vectors_wrong": wrong}


def _named(split: str) -> str:
    return f"vqa_questions_{split}.gzip,vqa_annotatons_{split}.gzip"


def truths_of(source: vqa.Questions, split: str) -> list[Truth]:
    """What people answered."""
    return [
        Truth(a["question_id"], tuple(x["answer"] for x in a["answers"]), a["question_type"], a["answer_type"])
        for q in source.splits[split][0]
        for a in [source.splits[split][1][q["question_id"]]]
    ]


def accuracies(family: Answerers, some: Set, truths: list[Truth]) -> Accuracies:
    """The official figures of a trained family."""
    best = torch.cat([family.answer(some.part(rows)).argmax(1) for rows in torch.split(torch.arange(len(some)), 500)])
    return report({t.question: family.answers[int(i)] for t, i in zip(truths, best, strict=True)}, truths)


def _questions(config: Config) -> dict[str, Any]:
    source = vqa.Questions(config.data, vqa.Options(_named("train"), _named("valid"), _named("test")))
    truths = truths_of(source, "test")
    rows = list(source.splits["train"][1].values())
    answers = [row["multiple_choice_answer"] for row in rows]
    by_type = priors.type_priors([row["question_type"] for row in rows], answers)
    yes = report({t.question: priors.prior(answers) for t in truths}, truths)
    typed = report({t.question: by_type[t.question_type] for t in truths}, truths)
    drawn = priors.random_answers(priors.top_answers(answers, 1000), len(truths), seeded(0, "random"))
    chance = report({t.question: a for t, a in zip(truths, drawn, strict=True)}, truths)
    for name, one in (("random", chance), ("prior yes", yes), ("per type", typed)):
        print(f"{name}: {one.overall}, {one.by_answer_type}", flush=True)
    found: dict[str, Any] = {"prior_yes": yes.overall, "prior_per_type": typed.overall}
    listed = source.samples()
    for name in config.questions:
        preset = models.vqa.PRESETS[name]
        specs = models.vqa.fields(preset)
        training = read(source, listed["train"], specs, None)
        test = read(source, listed["test"], specs, training.facts)

        def measure(seed: int, preset: models.vqa.Config = preset, training: Set = training, test: Set = test) -> Any:
            # Few questions: a tenth of the batch, and a few passes.
            short = replace(preset, seed=seed, batch=100, rate=5e-4, questions=config.passes * len(training))
            family = train(short, training)
            assert isinstance(family, Answerers)
            one = accuracies(family, test, truths)
            return {"all": one.overall, **one.by_answer_type}

        figures = told(name, config.seeds, measure)
        found[name.replace("-", "_")] = round(statistics.mean(figures["all"]), 2)
    return found
