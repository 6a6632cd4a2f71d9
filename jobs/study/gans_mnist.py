"""Every GAN objective on MNIST: what its samples look like after minutes, and what 100 labels teach.

Samples: one sheet, a row an objective; beside it Frechet distance, precision, recall, Inception score and classes by a
classifier trained here (its accuracy is a figure too), and catGAN's error without labels. Labels: error on the 10,000
test digits after training with ten labels of each class. Finished runs of `--folder` are not trained again; each is
tracked below the study's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import models.gans
from jobs.study.games.digits import LABELS, SETTINGS, recipe_of
from jobs.study.games.runs import error_of, sharded, trained
from jobs.study.harness.folders import kept_in
from models.common.seeds import seeded
from models.family import Batch
from models.gans.recipe import PRESETS
from pipeline.artifacts import storage
from pipeline.data import decode
from pipeline.data.images import Images
from pipeline.data.shards import DataSet
from pipeline.data.tensors import to_uint8
from pipeline.evaluation import classification
from pipeline.tracking import sheets
from pipeline.tracking.journal import Tracker

PUBLISHED = {
    "catgan": "1.91 % (Springenberg 2016, table 1, 100 labels)",
    "sgan": "7.2 % (Odena 2016, table 1, 100 labels, no unlabelled samples)",
}
EACH = 10
"""Labels of each class."""
COLUMNS = 16
JUDGED = 2000
"""Samples that the classifier judges, and held-out digits beside them."""


@dataclass(frozen=True)
class Config:
    """What is trained, on which MNIST."""

    source: str
    """mnist.npz, or a folder of the four idx files."""
    objectives: tuple[str, ...] = tuple(SETTINGS)
    """For samples."""
    labels: tuple[str, ...] = tuple(LABELS)
    """With 100 labels."""
    share: float = 1.0
    """Of the steps that each objective is given."""
    classifier_steps: int = 600
    seed: int = 0
    folder: str = ""
    """Where runs and the sheet are kept; none: a temporary folder."""
    tracking: str | None = None
    """MLflow tracking URI; none: off."""


def run(config: Config) -> dict[str, Any]:
    """The figures by objective."""
    for option, given, known in (("objectives", config.objectives, SETTINGS), ("labels", config.labels, LABELS)):
        if unknown := sorted(set(given) - known.keys()):
            raise ValueError(f"--{option} {unknown[0]}: choose among {', '.join(known)}")
    with kept_in(config.folder) as root, Tracker(root, config.tracking, job="study", name="gans-mnist") as tracker:
        figures = _samples(config, root, tracker) | _labels(config, root, tracker)
        tracker.scalars({k: v for k, v in figures.items() if isinstance(v, float)}, 0)
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}


def _samples(config: Config, root: str, tracker: Tracker) -> dict[str, Any]:
    if not config.objectives:
        return {}
    data = sharded(config.source, root, 0, 0)
    recipe = PRESETS["nonsaturating"]
    specs = models.gans.fields(replace(recipe, conditional=True))
    training, test = (Images(DataSet(data, split), specs=specs) for split in ("train", "test"))
    place = storage.join(root, "classifier.pt")
    reader, _ = classification.kept(place, training, recipe.frame, config.classifier_steps, config.seed)
    held_out = test.centred(range(len(test.data)), ["target", "class"], recipe.frame)
    accuracy = classification.accuracy(reader, held_out["target"], held_out["class"])
    print(f"classifier-{reader.mark}: accuracy {accuracy:.4f} on {len(test.data)} test digits", flush=True)
    figures: dict[str, Any] = {"classifier": reader.mark, "classifier_accuracy": accuracy}
    rows = []
    for objective in config.objectives:
        family, seconds = _trained(config, objective, objective, SETTINGS[objective], data, root, tracker)
        fakes, asked = _drawn(family, JUDGED, config.seed)
        found = classification.figures(reader, held_out["target"][:JUDGED], fakes, asked)
        found = {k.partition("_")[2]: v for k, v in found.items()}
        figures |= {f"{objective}/{k}": v for k, v in found.items()} | {f"{objective}/seconds": seconds}
        if family.rules.logits and family.rules.labels == "none":
            found["error_without_labels"] = figures[f"{objective}/error_without_labels"] = error_of(family, data)
        print(f"{objective}: " + ", ".join(f"{k} {v:.3f}" for k, v in found.items()), flush=True)
        rows.append([to_uint8(x) for x in _drawn(family, COLUMNS, config.seed)[0]])
    sheet = sheets.sheet(rows, config.objectives, (), "MNIST: samples of each objective", "", 56)
    tracker.picture("mnist", sheet, 0)
    storage.publish(storage.join(root, "mnist.png"), decode.to_png(np.asarray(sheet)))
    return figures


def _labels(config: Config, root: str, tracker: Tracker) -> dict[str, Any]:
    """Error on the test digits: of the N real classes alone, without the fake one."""
    figures: dict[str, Any] = {}
    for objective in config.labels:
        data = sharded(config.source, root, EACH, config.seed)
        family, seconds = _trained(config, objective, f"{objective}-labels", LABELS[objective], data, root, tracker)
        error = error_of(family, data)
        figures |= {f"{objective}/error_100_labels": error, f"{objective}/seconds_100_labels": seconds}
        print(f"{objective}, 100 labels: error {error:.4f}; published: {PUBLISHED.get(objective, 'none')}", flush=True)
    return figures


def _trained(
    config: Config,
    objective: str,
    name: str,
    setting: tuple[int, dict[str, Any]],
    data: str,
    root: str,
    tracker: Tracker,
) -> tuple[models.gans.GANs, float]:
    steps, changes = setting
    recipe = recipe_of(objective, max(1, round(steps * config.share)), changes, config.seed)
    return trained(f"{name}-{config.seed}", recipe, data, root, tracker, config.tracking)


def _drawn(family: models.gans.GANs, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
    """`count` samples, of the classes or codes in turn where there are some, and the classes asked for."""
    numbers = torch.arange(count)
    given: Batch = {"index": numbers}
    asked = None
    if "class" in family.reads:
        asked = given["class"] = numbers % family.recipe.classes
    elif family.sweeps():
        code = torch.zeros(count, family.sweeps()["discrete"].shape[1])
        code[:, 0] = numbers % family.recipe.classes
        given["code"] = code
    return family.sample(given, 1, seeded(seed, "samples"))[:, 0], asked
