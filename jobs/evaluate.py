"""Measure a run on held-out samples: fidelity, diversity, and what else its family can do.

    python -m jobs.evaluate --run RUN --data DATASET --output DIR --weights vgg19.pth --protocol bicyclegan

Every measure that fits the run and the data set is taken:
- reconstruction, at the end of each stage that trains on samples;
- for each way to draw samples: diversity, distance to the truth, precision, recall, and a sheet;
- if there are label maps: how well a segmenter, trained here, reads them from the samples;
- likelihood, answers, retrieval.

The perceptual distance uses the VGG of `--weights`, and its name says which. LPIPS is measured with `--lpips`; its
weights are in `--lpips-weights`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from jobs import command
from pipeline.artifacts import kept, storage
from pipeline.artifacts.progress import Progress
from pipeline.data import decode
from pipeline.data.shards import DataSet
from pipeline.evaluation import measures
from pipeline.evaluation.measures import Figures, measure
from pipeline.evaluation.setting import Options, Setting
from pipeline.runs.sampler import open_run

if TYPE_CHECKING:
    from pipeline.tracking.journal import Tracker


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """What to measure, on what."""

    run: str
    """Folder of a training run."""
    data: str
    """Data set folder."""
    output: str
    """Folder of evaluation.json, the sheets and the segmenter."""
    split: str = "val"
    """Split of --data."""


def run(config: Config, tracker: Tracker | None = None) -> Figures:
    """Measure; write evaluation.json and the sheets; returns the figures. They are kept while the run's weights, the
    data set, the options and the measures are the same.

    Raises:
        ValueError: an unfinished run, no held-out samples, weights that are not there, labels or a segmenter of another
            data set, or nothing that could be measured.
    """
    folder = storage.absolute(config.run, "--run")
    output = storage.output(config.output, run=config.run, data=config.data)
    data = DataSet(storage.absolute(config.data, "--data"), config.split)
    setting = Setting(open_run(folder), folder, data, output, config)
    request = {"version": measures.VERSION, **setting.request}
    names = kept.find(output, request)
    if names is None:
        names = _measure(setting, output)
        kept.keep(output, request, names)
    path = storage.join(output, "evaluation.json")
    figures: Figures = storage.read_json(path)["figures"]
    for name, value in figures.items():
        print(f"{name} {value}" if isinstance(value, str) else f"{name} {value:.4g}")
    print(path)
    if tracker:
        tracker.scalars({k: v for k, v in figures.items() if isinstance(v, float)}, 0)
        for name in names:
            file = storage.join(output, name)
            if name.endswith(".png"):
                tracker.picture(name.removesuffix(".png"), Image.open(io.BytesIO(storage.read(file))), 0)
            else:
                tracker.file(file)
    return figures


def _measure(setting: Setting, output: str) -> list[str]:
    """Write evaluation.json, the sheets and the tables; returns their names."""
    kept.forget(output)
    with Progress("evaluate", outer=True):
        found = measure(setting)
    made_of = {"split": setting.data.split, "inputs": setting.run.described["inputs"], **setting.notes}
    record = {"figures": found.figures, "missing": found.missing, **made_of}
    storage.publish_json(storage.join(output, "evaluation.json"), record)
    sheets = {f"{name}.png": decode.to_png(np.asarray(picture)) for name, picture in found.sheets.items()}
    tables = {f"{name}.csv": text.encode() for name, text in found.tables.items()}
    for name, content in {**sheets, **tables}.items():
        storage.publish(storage.join(output, name), content)
    return ["evaluation.json", *sheets, *tables]


if __name__ == "__main__":
    command.main(Config, run, __doc__)
