"""Every GAN objective on MNIST: what its samples look like after minutes, and what 100 labels teach.

Samples: one sheet, a row an objective; beside it Frechet distance, precision, recall, Inception score and classes by a
classifier trained here (its accuracy is a figure too). Labels: error on the 10,000 test digits after training with ten
labels of each class. Finished runs of `--folder` are not trained again; each is tracked below the study's own.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import models.gans
from jobs import shard
from jobs.study.games.digits import LABELS, SETTINGS, recipe_of
from models.common.seeds import seeded
from models.family import Batch
from models.gans.recipe import PRESETS
from pipeline.artifacts import storage
from pipeline.data import decode
from pipeline.data.images import Images
from pipeline.data.shards import DataSet
from pipeline.data.tensors import to_uint8
from pipeline.evaluation import classification
from pipeline.runs import checkpoint
from pipeline.tracking import sheets
from pipeline.tracking.journal import Tracker
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit

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
    """MLflow's URI; none: not there."""


def run(config: Config) -> dict[str, Any]:
    """The figures by objective."""
    for option, given, known in (("objectives", config.objectives, SETTINGS), ("labels", config.labels, LABELS)):
        if unknown := sorted(set(given) - known.keys()):
            raise ValueError(f"--{option} {unknown[0]}: choose among {', '.join(known)}")
    with nullcontext(config.folder) if config.folder else tempfile.TemporaryDirectory() as folder:
        root = storage.absolute(str(folder), "--folder")
        with Tracker(root, config.tracking, job="study", name="gans-mnist") as tracker:
            figures = _samples(config, root, tracker) | _labels(config, root, tracker)
            tracker.scalars({k: v for k, v in figures.items() if isinstance(v, float)}, 0)
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}


def _samples(config: Config, root: str, tracker: Tracker) -> dict[str, Any]:
    if not config.objectives:
        return {}
    data = _data(config, root, 0)
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
        family, seconds = _trained(config, objective, *SETTINGS[objective], data, root, tracker)
        fakes, asked = _drawn(family, JUDGED, config.seed)
        found = classification.figures(reader, held_out["target"][:JUDGED], fakes, asked)
        found = {k.partition("_")[2]: v for k, v in found.items()}
        figures |= {f"{objective}/{k}": v for k, v in found.items()} | {f"{objective}/seconds": seconds}
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
        data = _data(config, root, EACH)
        family, seconds = _trained(config, objective, *LABELS[objective], data, root, tracker)
        test = Images(DataSet(data, "test"), specs=models.gans.fields(family.recipe))
        frame, count = family.recipe.frame, len(test.data)
        parts = (range(i, min(i + 500, count)) for i in range(0, count, 500))
        error = family.judge(test.centred(part, ["target", "class"], frame) for part in parts)["error"]
        figures |= {f"{objective}/error_100_labels": error, f"{objective}/seconds_100_labels": seconds}
        print(f"{objective}, 100 labels: error {error:.4f}; published: {PUBLISHED.get(objective, 'none')}", flush=True)
    return figures


def _data(config: Config, root: str, labelled: int) -> str:
    path = storage.join(root, f"data-{labelled or 'all'}")
    option = {"labelled": str(labelled), "seed": str(config.seed)}
    shard.run(shard.Config(source=f"idx:{config.source}", option=option, output=path, workers=1))
    return path


def _trained(
    config: Config, objective: str, steps: int, changes: dict[str, Any], data: str, root: str, tracker: Tracker
) -> tuple[models.gans.GANs, float]:
    """The trained family, and the seconds that this call took for it."""
    recipe = recipe_of(objective, max(1, round(steps * config.share)), changes, config.seed)
    output = storage.join(root, f"{objective}-{data.rsplit('-', 1)[1]}-{config.seed}")
    watched = Run(workers=0, threads=1, checkpoint_every=1000, evaluate_every=500, log_every=50, evaluate_images=500)
    began = time.perf_counter()
    fit(Job("gans", recipe, data, output, run=watched, tracking=config.tracking, parent=tracker.as_parent, name=output))
    family = checkpoint.restore(output)[0]
    assert isinstance(family, models.gans.GANs)
    return family, time.perf_counter() - began


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
