"""What can be measured of a finished run. Each measure says which ability and which fields it needs. Those that fit the
run and the data set are taken. Nothing is loaded that none of them asks for."""

from __future__ import annotations

import torch

from models.abilities import described
from pipeline.evaluation.measures.measure import Figures, Found, Measure
from pipeline.evaluation.measures.pictures import Classified, Reconstruction, Samples, Truths
from pipeline.evaluation.measures.sets import Likelihood, PointModes, WholeSet
from pipeline.evaluation.measures.texts import Answering, Attention, Retrieval
from pipeline.evaluation.setting import Setting

VERSION = 3
"""Raised when a measure changes: figures of before are then made anew."""

MEASURES: tuple[Measure, ...] = (
    Reconstruction(),
    Samples(),
    Truths(),
    Classified(),
    PointModes(),
    Likelihood(),
    Answering(),
    Attention(),
    Retrieval(),
    WholeSet(),
)


def fitting(setting: Setting) -> tuple[list[Measure], dict[str, str]]:
    """The measures that fit the run and the data set; of the others, name -> why not."""
    fit, why = [], {}
    for measure in MEASURES:
        there = {name: f.kind for name, f in setting.data.fields.items()}
        missing = [f"{name} ({kind})" for name, kind in measure.fields.items() if there.get(name) != kind]
        if not isinstance(setting.family, measure.ability):
            why[measure.name] = f"needs a family that {described(measure.ability)}"
        elif missing:
            why[measure.name] = f"the data set has no field {', '.join(missing)}"
        else:
            fit.append(measure)
    return fit, why


def measure(setting: Setting) -> Found:
    """All measures that fit.

    Raises:
        ValueError: none does; the message says of each why.
    """
    chosen, why = fitting(setting)
    if not chosen:
        raise ValueError("nothing to measure: " + "; ".join(f"{name}: {reason}" for name, reason in why.items()))
    found = Found({"images": float(setting.count)}, missing=why)
    with torch.no_grad():
        for one in chosen:
            result = one(setting)
            found.figures |= result.figures
            found.sheets |= result.sheets
            found.tables |= result.tables
    return found


__all__ = ["MEASURES", "VERSION", "Figures", "Found", "Measure", "fitting", "measure"]
