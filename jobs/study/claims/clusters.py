"""Mapper against gaussian: codes drawn by each, where the clusters of the codes are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

import models.step
from models.common.seeds import seeded
from models.family import Batch
from models.group import Group
from pipeline.evaluation.coverage import mode_figures
from pipeline.training.trainer import nearest

CLUSTERS, DEVIATION = 6, 0.1
"""Equal Gaussians; their centres are drawn from N(0, I)."""
SAMPLES = 2500


def measured(count: int, epochs: int, seed: int) -> dict[str, float]:
    """Of `SAMPLES` codes by each sampler, of a mapper and a gaussian fitted to `count` codes: clusters captured, share
    near a cluster, reverse KL (none where no code is near one), by PacGAN's rule for the deviation of 8 dimensions."""
    decay = max(1, epochs // 10)  # the paper's: 50 of 500
    recipe = replace(models.step.PRESETS["demo"], seed=seed, mapper_epochs=epochs, mapper_decay_epochs=decay)
    family = models.step.build(recipe, Group(alone=True))
    centres = torch.randn(CLUSTERS, recipe.code, generator=seeded(seed, "centres"))
    noise = torch.randn(count, recipe.code, generator=seeded(seed, "codes"))
    codes = centres[torch.arange(count) % CLUSTERS] + DEVIATION * noise
    family.adopt("finetune", {"code": codes})
    _train(family, codes)
    found = {}
    for sampler in family.samplers:
        drawn = family.draw_codes(SAMPLES, seeded(seed, sampler), sampler).double().numpy()
        # Three deviations of the distance in the plane, sqrt(2): so many of the distance in 8 dimensions.
        deviation = DEVIATION * float(np.sqrt(recipe.code / 2))
        figures = mode_figures(drawn, centres.double().numpy(), deviation)
        found[f"{sampler}/captured"] = float(figures.captured)
        found[f"{sampler}/near_a_cluster"] = figures.high_quality
        if figures.captured:
            found[f"{sampler}/reverse_kl"] = figures.reverse_kl
    return found


def _train(family: models.step.StEP, codes: Tensor) -> None:
    """The mapper stage as the loop trains it."""
    family.enter("mapper")
    stage = family.stages[-1]
    order = torch.randperm(len(codes), generator=seeded(family.recipe.seed, "order"))
    order = order[: len(codes) // stage.batch * stage.batch]

    for number in range(stage.images // stage.batch):
        start = number * stage.batch % len(order)
        rows = order[start : start + stage.batch]

        def draw(stream: str, rows: Tensor = rows) -> Batch:
            return {"code": codes[rows], "row": rows}

        if number % stage.refresh_every == 0:
            family.refresh(draw, {"finetune": {"code": codes}}, nearest, number)
        family.update(draw, number * stage.batch)
