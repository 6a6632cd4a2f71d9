"""Conditional IMLE on a set with known truth: does every input keep all its plausible outputs?

Each label map (two ellipses on a background, 32 pixels) has four colourings; the training set holds one of them, drawn
with `shares`. Coverage: share of held-out maps whose `drawn` samples hit all four. A sample hits a colouring when its
mean squared distance to it is under 3 % of the mean one between two colourings of that map, so that their average,
which is what a regression gives, hits none.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import models.imle
from jobs import rarity, shard
from jobs.study.harness.folders import kept_in
from models.common.seeds import seeded
from models.family import Family
from models.imle import IMLE
from pipeline.data import tensors
from pipeline.data.sources.colourings import COLOURINGS, HELD_OUT, layout
from pipeline.data.tensors import to_tensor
from pipeline.evaluation.truths import apart, hits
from pipeline.runs import checkpoint
from pipeline.tracking import sheets
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit


@dataclass(frozen=True)
class Config:
    """What is trained and how it is measured."""

    kinds: tuple[str, ...] = ("m1", "m5", "m20", "m20-plain")
    """What to train: `mN` with N candidates and the noise encoder, `mN-plain` without it, `-balanced` after either for
    re-balancing by rarity; `crn`, the baseline without noise."""
    seeds: tuple[int, ...] = (0, 1, 2)
    layouts: int = 400
    shares: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)
    """How often each colouring is the observed one."""
    steps: int = 2400
    held_out: int = 50
    """Label maps to measure on."""
    drawn: int = 100
    """Samples of each."""
    folder: str = ""
    """Where runs and the sheet are kept (finished runs are not trained again); none: a temporary folder."""


def run(config: Config) -> dict[str, Any]:
    """By name, mean and spread (largest - smallest) over the seeds: coverage, colourings hit, share of the samples that
    hit any, and that hit one of the three less observed; diversity: mean squared distance of two samples over that of
    two colourings (1: samples as far apart as different colourings; four colourings drawn alike: 0.75)."""
    with kept_in(config.folder) as folder:
        return _run(config, Path(folder))


def _run(config: Config, folder: Path) -> dict[str, Any]:
    data = str(folder / "data")
    option = {"input": "labels", "count": str(config.layouts), "shares": ",".join(map(str, config.shares))}
    shard.run(shard.Config(source="colourings", option=option, output=data, workers=0))
    held_out = [layout(HELD_OUT + i) for i in range(config.held_out)]
    found: dict[str, list[float]] = {}
    rows: dict[str, list[np.ndarray]] = {}
    for kind in config.kinds:
        for seed in config.seeds:
            family = _trained(config, kind, seed, data, folder)
            each = [measure(draw(family, ids, config.drawn, seed, i), ids) for i, ids in enumerate(held_out)]
            means = {name: statistics.mean(one[name] for one in each) for name in each[0]}
            for name, value in means.items():
                found.setdefault(f"{kind}/{name}", []).append(value)
            print(f"{kind} seed {seed}: " + ", ".join(f"{k} {v:.3f}" for k, v in means.items()), flush=True)
            if seed == config.seeds[0]:
                rows[kind] = [tensors.to_uint8(x) for x in draw(family, held_out[0], 12, seed, 0)]
    _sheet(rows, held_out[0]).save(folder / "modes.png")
    figures: dict[str, Any] = {"layouts": config.layouts, "steps": config.steps, "seeds": len(config.seeds)}
    for name, values in found.items():
        figures[name] = round(statistics.mean(values), 4)
        figures[f"{name}_spread"] = round(max(values) - min(values), 4)
    return figures


def recipe_of(kind: str, steps: int, seed: int) -> models.imle.Config:
    """The recipe of a row.

    Raises:
        ValueError: no such kind.
    """
    match = re.fullmatch(r"(?:crn|m([1-9][0-9]*)(-plain)?(?:-balanced)?)", kind)
    if match is None:
        raise ValueError(f"--kinds {kind}: wanted mN, mN-plain, mN-balanced, mN-plain-balanced or crn")
    preset = models.imle.PRESETS["modes"]
    length = steps * preset.batch
    if kind == "crn":
        return replace(preset, seed=seed, crn_images=length, imle_images=0)
    return replace(preset, seed=seed, samples=int(match[1]), noise_encoder=not match[2], imle_images=length)


def _trained(config: Config, kind: str, seed: int, data: str, folder: Path) -> Family:
    recipe, artifacts = recipe_of(kind, config.steps, seed), dict[str, str]()
    if kind.endswith("-balanced"):
        artifacts = {"rarity": str(folder / "rarity")}
        rarity.run(rarity.Config(data=data, output=artifacts["rarity"], classes=recipe.labels, workers=1))
    output = str(folder / f"{kind}-{seed}")
    fit(
        Job(
            "imle",
            recipe,
            data,
            output,
            artifacts=artifacts,
            run=Run(workers=0, checkpoint_every=2000),
        )
    )
    return checkpoint.restore(output)[0]


def draw(family: Family, ids: np.ndarray, count: int, seed: int, number: int) -> torch.Tensor:
    """`count 3 32 32` samples for one label map."""
    assert isinstance(family, IMLE)
    return family.sample({"input": to_tensor([ids.astype(np.int64)])}, count, seeded(seed, "modes", str(number)))[0]


def measure(samples: torch.Tensor, ids: np.ndarray) -> dict[str, float]:
    """The figures of one label map's samples `N 3 H W`."""
    truths = to_tensor([c[ids] for c in COLOURINGS])  # 4 3 H W
    near = hits(samples, truths)  # N 4
    # Mean over all pairs of |a - b|^2 = 2 N / (N - 1) times the samples' variance.
    spread = 2 * len(samples) / (len(samples) - 1) * samples.var(0, unbiased=False).mean()
    hit = near.any(0)
    return {
        "coverage": float(hit.all()),
        "colourings": float(hit.sum()),
        "on_a_colouring": float(near.any(1).double().mean()),
        "on_a_rare_one": float(near[:, 1:].any(1).double().mean()),
        "diversity": float(spread / apart(truths)),
    }


def _sheet(rows: Mapping[str, Sequence[np.ndarray]], ids: np.ndarray) -> Any:
    truths: list[np.ndarray | None] = [c[ids] for c in COLOURINGS]
    cells = [[tensors.coloured(ids), *truths], *([None, *drawn] for drawn in rows.values())]
    return sheets.sheet(cells, ["labels, all truths", *rows], [], "Samples of one held-out label map", "", 64)
