"""Does SGAN's generator help its classifier? Beside the same classifier whose generator is never updated.

On MNIST with few labels, as in Odena 2016, table 1: no unlabelled samples take part. Accuracy on the 10,000 test
digits, mean and spread (largest - smallest) over the seeds, which choose the labels too. Finished runs of `--folder`
are not trained again; each is tracked below the study's own.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import Any

from jobs.study.games.digits import LABELS, recipe_of
from jobs.study.games.runs import error_of, sharded, trained
from jobs.study.harness.folders import kept_in
from pipeline.tracking.journal import Tracker

KINDS: dict[str, dict[str, Any]] = {"cnn": {"generator_rate": 0.0}, "sgan": {}}
"""The two rows: what differs from the recipe."""
PUBLISHED = {25: (0.750, 0.802), 50: (0.859, 0.883), 100: (0.895, 0.928), 1000: (0.965, 0.964)}
"""Labels in all -> accuracy of the CNN and of SGAN in the paper's table 1."""


@dataclass(frozen=True)
class Config:
    """How many labels, and how long is trained."""

    source: str
    """mnist.npz, or a folder of the four idx files."""
    each: tuple[int, ...] = (3, 5, 10, 100)
    """Labels of each class."""
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 600
    folder: str = ""
    """Where runs are kept; none: a temporary folder."""
    tracking: str | None = None
    """MLflow tracking URI; none: off."""


def run(config: Config) -> dict[str, Any]:
    """Accuracies by kind and number of labels."""
    with kept_in(config.folder) as root, Tracker(root, config.tracking, job="study", name="gans-labels") as tracker:
        figures = _run(config, root, tracker)
        tracker.scalars({k: v for k, v in figures.items() if isinstance(v, float)}, 0)
    return figures


def _run(config: Config, root: str, tracker: Tracker) -> dict[str, Any]:
    figures: dict[str, Any] = {"steps": config.steps, "seeds": len(config.seeds)}
    for each in config.each:
        for kind, changes in KINDS.items():
            found = []
            for seed in config.seeds:
                data = sharded(config.source, root, each, seed)
                recipe = replace(recipe_of("sgan", config.steps, LABELS["sgan"][1], seed), **changes)
                family, _ = trained(f"{kind}-{each}-{seed}", recipe, data, root, tracker, config.tracking)
                found.append(1 - error_of(family, data))
            name = f"{10 * each}/{kind}"
            figures[name] = round(statistics.mean(found), 4)
            figures[f"{name}_spread"] = round(max(found) - min(found), 4)
            print(f"{10 * each} labels, {kind}: {figures[name]}, spread {figures[f'{name}_spread']}", flush=True)
        if 10 * each in PUBLISHED:
            print("  published (CNN, SGAN): {} {}".format(*PUBLISHED[10 * each]), flush=True)
    return figures
