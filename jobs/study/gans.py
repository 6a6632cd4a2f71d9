"""Which modes each GAN objective keeps: a ring of 8 and a grid of 25 Gaussians, several seeds.

One row an objective and set: modes captured, share of high-quality samples, reverse KL, by PacGAN's rule (2,500
samples, 3 deviations), mean and spread (largest - smallest) over the seeds, beside what was published. A picture of the
samples over their targets. Finished runs of `--folder` are not trained again; each is tracked below the study's own.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

import models.gans
from jobs import shard
from jobs.study.harness.folders import kept_in
from models.common.seeds import seeded
from models.gans import views
from pipeline.artifacts import storage
from pipeline.data import decode, tensors
from pipeline.data.sources.points import Modes, modes
from pipeline.evaluation.coverage import ModeFigures, mode_figures
from pipeline.runs import checkpoint
from pipeline.tracking import sheets
from pipeline.tracking.journal import Tracker
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit

COMMON: dict[str, Any] = {
    "rate": 1e-3,
    "generator_rate": 1e-3,
    "linear_decay": True,
    "generator_widths": (128, 128, 128),
    "critic_widths": (128, 128, 128),
}
"""Differs from the preset for all: short runs, whose rates fall to 0, and three layers rather
than two: non-saturating, seed 0, 93 % of high quality on the ring rather than 84."""
SETTINGS: dict[str, dict[str, Any]] = {
    "minimax": {},
    "nonsaturating": {},
    "lsgan": {},
    "wgan": {"optimiser": "rmsprop", "critic_steps": 5, "clip": 0.1, "rate": 5e-4, "generator_rate": 5e-4},
    "wgan-gp": {"critic_steps": 5, "penalty_weight": 0.1, "beta2": 0.9},
    "dragan": {"penalty_weight": 1.0},
    "ebgan": {"margin": 1.0, "critic_widths": (128, 8), "critic_activation": "relu"},
    "ebgan-pt": {"margin": 1.0, "critic_widths": (128, 8), "critic_activation": "relu"},
    "began": {"critic_widths": (128, 8), "critic_activation": "relu"},
    "catgan": {"label_weight": 0.0, "generator_rate": 1e-4},
    "sgan": {},
    "acgan": {"class_weight": 0.1},
    "infogan": {"critic_activation": "leaky-relu"},
    "fgan-kl": {},
    "fgan-jensen-shannon": {},
    "fgan-reverse-kl-heuristic": {},
}
"""Objective -> what else differs from the preset `ring` or `grid`. sgan, acgan and infogan have as many classes as
there are modes; the first two are told them."""
PUBLISHED = {
    ("ring", "nonsaturating"): "GAN 6.3 +- .5 modes, 98.2 % high quality, reverse KL .45 (PacGAN, table 1)",
    ("grid", "nonsaturating"): "GAN 17.3 +- .8 modes, 94.8 % high quality, reverse KL .70 (PacGAN, table 1)",
}
SAMPLES = 2500


@dataclass(frozen=True)
class Config:
    """What is trained, and for how long."""

    layouts: tuple[str, ...] = ("ring", "grid")
    convention: str = "pacgan"
    """Of the sets: pacgan or wgan-gp (see pipeline.data.sources.points)."""
    objectives: tuple[str, ...] = tuple(SETTINGS)
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 5000
    """Generator steps of each run."""
    count: int = 10_000
    """Training points."""
    folder: str = ""
    """Where runs and sheets are kept; none: a temporary folder."""
    tracking: str | None = None
    """MLflow tracking URI; none: off."""


def run(config: Config) -> dict[str, Any]:
    """The table's figures, by set and objective."""
    if unknown := sorted(set(config.objectives) - SETTINGS.keys()):
        raise ValueError(f"--objectives {unknown[0]}: choose among {', '.join(SETTINGS)}")
    with kept_in(config.folder) as root, Tracker(root, config.tracking, job="study", name="gans") as tracker:
        figures = _run(config, root, tracker)
        tracker.scalars({k: v for k, v in figures.items() if isinstance(v, float) and v == v}, 0)
    return figures


def _run(config: Config, root: str, tracker: Tracker) -> dict[str, Any]:
    figures: dict[str, Any] = {"steps": config.steps, "seeds": len(config.seeds), "convention": config.convention}
    for layout in config.layouts:
        wanted, data = modes(layout, config.convention), _data(config, layout, root)
        rows: list[list[np.ndarray]] = []
        for objective in config.objectives:
            points = [_points(config, layout, objective, seed, data, root, tracker) for seed in config.seeds]
            found = [mode_figures(p, wanted.centres, wanted.deviation) for p in points]
            figures |= _row(f"{layout}/{objective}", found, PUBLISHED.get((layout, objective), ""))
            rows.append([_drawn(p, wanted) for p in points])
        title = f"{layout}: samples over the modes, {config.steps} steps"
        columns = [f"seed {seed}" for seed in config.seeds]
        sheet = sheets.sheet(rows, config.objectives, columns, title, "", 192)
        tracker.picture(f"{layout}-modes", sheet, 0)
        storage.publish(storage.join(root, f"{layout}.png"), decode.to_png(np.asarray(sheet)))
    return figures


def _row(name: str, found: Sequence[ModeFigures], published: str) -> dict[str, Any]:
    """Mean and spread over the seeds; runs without a single good sample have no reverse KL."""
    row: dict[str, Any] = {}
    for figure in ModeFigures._fields:
        values = [float(getattr(one, figure)) for one in found if getattr(one, figure) == getattr(one, figure)]
        if values:
            row[f"{name}/{figure}"] = round(statistics.mean(values), 4)
            row[f"{name}/{figure}_spread"] = round(max(values) - min(values), 4)
    print(f"{name}: " + ", ".join(f"{k.rsplit('/', 1)[1]} {v}" for k, v in row.items()), flush=True)
    if published:
        print(f"  published: {published}", flush=True)
    return row


def _data(config: Config, layout: str, root: str) -> str:
    path = storage.join(root, f"{layout}-data")
    option = {"layout": layout, "convention": config.convention, "count": str(config.count)}
    shard.run(shard.Config(source="points", option=option, output=path, workers=0))
    return path


def recipe_of(layout: str, objective: str, steps: int, seed: int) -> models.gans.Config:
    """The recipe of a run."""
    preset = models.gans.PRESETS[layout]
    classes = 8 if layout == "ring" else 25
    changes = {"objective": objective, "seed": seed, "classes": classes, **COMMON, **SETTINGS[objective]}
    return replace(preset, images=steps * preset.batch, **changes)


def _points(
    config: Config, layout: str, objective: str, seed: int, data: str, root: str, tracker: Tracker
) -> np.ndarray:
    """`SAMPLES` points of one trained run."""
    recipe, name = recipe_of(layout, objective, config.steps, seed), f"{layout}-{objective}-{seed}"
    output = storage.join(root, name)
    watched = Run(workers=0, threads=1, checkpoint_every=2000, evaluate_every=1000, log_every=100, evaluate_images=500)
    fit(Job("gans", recipe, data, output, run=watched, tracking=config.tracking, parent=tracker.as_parent, name=name))
    family = checkpoint.restore(output)[0]
    assert isinstance(family, models.gans.GANs)
    drawn: np.ndarray = family.draws(SAMPLES, seeded(seed, "modes")).double().numpy()
    return drawn


def _drawn(points: np.ndarray, wanted: Modes) -> np.ndarray:
    centres = torch.from_numpy(wanted.centres).float()
    return tensors.to_uint8(views.clouds(torch.from_numpy(points).float()[None], 96, centres)[0])
