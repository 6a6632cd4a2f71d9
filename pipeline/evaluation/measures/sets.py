"""Of a whole set: the modes of points, the likelihood, what the family itself says."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from models.abilities import DrawsPoints, GivesLikelihood, JudgesSet
from models.common.seeds import seeded
from pipeline.evaluation import coverage
from pipeline.evaluation.measures.measure import Figures, Found
from pipeline.evaluation.setting import Setting

POINTS = 2500
"""Points whose modes are counted (PacGAN)."""


class PointModes:
    """Of points with classes: modes captured, share of high quality, reverse KL of 2,500 samples, by PacGAN's rule. The
    modes are the classes of the training samples: their means, and their common deviation."""

    name: str = "modes"
    ability: type = DrawsPoints
    fields: Mapping[str, str] = {"points": "array", "class": "class"}

    def __call__(self, setting: Setting) -> Found:
        family, data = setting.family, setting.training.data
        assert isinstance(family, DrawsPoints)
        points = setting.training.centred(range(len(data)), ["points"], setting.run.frame)["points"]
        modes = coverage.centres_of(points.double().numpy(), np.asarray(data.column("class")))
        drawn = family.draws(POINTS, seeded(setting.options.seed, "modes")).double().numpy()
        measured = coverage.mode_figures(drawn, *modes)
        found: Figures = {"modes": float(len(modes[0])), "modes_captured": float(measured.captured)}
        found["modes_high_quality"] = measured.high_quality
        if measured.captured:
            found["modes_reverse_kl"] = measured.reverse_kl
        return Found(found)


class Likelihood:
    """Negative log-likelihood of the held-out targets: nats an image, and bits per dimension."""

    name: str = "likelihood"
    ability: type = GivesLikelihood
    fields: Mapping[str, str] = {"target": "image"}

    def __call__(self, setting: Setting) -> Found:
        family = setting.family
        assert isinstance(family, GivesLikelihood)
        nats = -float(torch.cat([family.log_prob(batch) for batch in setting.batches()]).double().mean())
        return Found({"nats": nats, "bits_per_dimension": nats / (family.dimensions() * math.log(2))})


class WholeSet:
    """What the family itself says of the whole held-out set."""

    name: str = "set"
    ability: type = JudgesSet
    fields: Mapping[str, str] = {}

    def __call__(self, setting: Setting) -> Found:
        assert isinstance(setting.family, JudgesSet)
        return Found(dict(setting.family.judge(setting.batches())))
