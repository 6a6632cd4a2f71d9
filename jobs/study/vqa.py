"""Question answering measured: the official metric, priors, questions alone, made-up shapes, captions.

`--data` is a folder of VQA v2's JSON (official_metric_vectors.json beside it), `--captions` a list of Flickr captions,
`--weights` and `--squeezenet` checkpoints for the features of pictures. What is not named is left out: its figures are
null. The same command with the same `--folder` goes on where it was interrupted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jobs.study.answering import questions, scenes, sentences
from jobs.study.answering.sets import Table
from pipeline.artifacts import storage
from pipeline.evaluation.vqa import Truth, report


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
    passes: int = 5
    """Over the questions, at most: the pass that is best on valid counts."""
    scenes: int = 3000
    """Made-up training pictures."""
    scene_passes: int = 8
    caption_passes: int = 20
    threads: int = 1
    folder: str = ""
    """Where finished rows of the table and the pictures are kept; none: nowhere."""


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
    table = Table(storage.absolute(config.folder, "--folder") if config.folder else "", config.seeds)
    found: dict[str, Any] = dict.fromkeys(FIGURES)
    if config.data:
        found |= _metric(Path(config.data))
        source = questions.opened(config.data)
        for name, [value] in questions.without_network(source, table).items():
            found[name.replace(" ", "_")] = value
        trained = questions.trained(source, config.questions, config.passes, table)
        found |= {name.replace("-", "_"): value for name, value in trained.items()}
    if config.weights:
        found |= scenes.measure(config.weights, config.scenes, config.scene_passes, table)
    if config.squeezenet and config.captions:
        found |= sentences.measure(config.captions, config.squeezenet, config.caption_passes, table)
    return found


def _metric(folder: Path) -> dict[str, Any]:
    cases = json.loads((folder / "official_metric_vectors.json").read_text())["cases"]
    truths = [Truth(c["question_id"], tuple(c["answers"]), c["question_type"], c["answer_type"]) for c in cases]
    found = report({c["question_id"]: c["prediction"] for c in cases}, truths).each
    wrong = sum(found[c["question_id"]] != c["official_accuracy_pct"] for c in cases)
    print(f"official metric: {wrong} of {len(cases)} vectors wrong", flush=True)
    return {"metric_vectors_wrong": wrong}
