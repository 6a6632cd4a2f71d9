"""Many plausible outputs for each input: samples, style transfer, a walk between two styles, the map of styles.

    python -m jobs.sample --run RUN --data DATASET --output DIR --count 8
    python -m jobs.sample --run RUN --inputs FOLDER --styles FOLDER --output DIR
    python -m jobs.sample --run RUN --given class 3 --output DIR
    python -m jobs.sample --run RUN --code 3 0.5 -1 --output DIR

Inputs are held-out samples of a data set, a folder of images, or values given by hand. A family without an input needs
none of them. Each sample depends only on the run, the seed and the name of its input. A family with latents shows walks
between two of them, one with codes of its own a sweep of each. A family that answers questions writes answers.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from jobs import command
from models.abilities import Answers, DrawsSamples, EncodesStyle, TakesCodes, WalksLatents, require
from models.family import Family
from pipeline.artifacts import storage
from pipeline.data import decode
from pipeline.data.shards import DataSet
from pipeline.evaluation import pages
from pipeline.runs import sampler
from pipeline.runs.checkpoint import note
from pipeline.runs.sampler import Row

if TYPE_CHECKING:
    from pipeline.tracking.journal import Tracker


@dataclass(frozen=True)
class Config:
    """What to sample from, and where to."""

    run: str
    """Folder of a training run."""
    output: str
    """Folder for the pictures."""
    data: str = ""
    """Data set whose samples in --split are the inputs."""
    inputs: str = ""
    """Or: a folder of input images (label maps, for a run that was trained on label maps). Those that cannot be read
    are left out and named in OUTPUT/skipped.json."""
    given: dict[str, str] = field(default_factory=dict)
    """Or: FIELD VALUE, such as `class 3`. If the run reads only a class and none of the three is given, each class gets
    a row."""
    code: tuple[float, ...] = ()
    """For families with codes of their own: the code of all samples (infoGAN: the number of its discrete code, then its
    continuous ones); none: any."""
    palette: str = ""
    """If --inputs are painted label maps: which colour is which class, as in jobs.shard; none: their pixels are class
    ids."""
    styles: str = ""
    """A folder of style images; none: the targets of --data."""
    split: str = "val"
    """Split of --data."""
    stage: str = ""
    """Use the weights at the end of this stage; none: the final ones."""
    count: int = 6
    """Samples per input and sampler."""
    limit: int = 6
    """Inputs shown on the sheets; the choice is fixed. `--files` is for all inputs."""
    samplers: tuple[str, ...] = ()
    """Ways to draw samples; none: all that the family has."""
    files: bool = False
    """Write each sample as a PNG of its own, for all inputs."""
    seed: int = 0
    """Root of the random numbers."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.limit < 1:
            raise ValueError(f"--count {self.count}, --limit {self.limit}: give at least 1")
        if sum(map(bool, (self.data, self.inputs, self.given))) > 1:
            raise ValueError("give one of --data (a data set), --inputs (a folder of images) and --given (values)")


def run(config: Config, tracker: Tracker | None = None) -> list[str]:
    """Draw and save the sheets (or the answers); returns their paths.

    Raises:
        ValueError: no inputs, a run that is not finished, or one that neither draws samples nor answers.
    """
    output = storage.absolute(config.output, "--output")
    opened = sampler.open_run(storage.absolute(config.run, "--run"), config.stage)
    rows = _rows(config, opened)
    some = sampler.chosen_rows(rows, config.limit)
    family, warning = opened.family, note(dict(opened.described))
    if isinstance(family, Answers):
        path = storage.join(output, "answers.json")
        storage.publish_json(path, pages.answers(family, rows, config.count))
        print(path)
        return [path]
    drawing = require(family, DrawsSamples, "jobs.sample")
    if config.code:
        rows, some = _with_code(config, family, rows), _with_code(config, family, some)
    made = {}
    for way in config.samplers or drawing.samplers:
        made[f"samples-{way}"] = pages.samples(drawing, some, config.count, way, config.seed, warning)
        if config.files:
            _write_all(drawing, rows, way, config, output)
    if isinstance(family, WalksLatents):
        made["walk"] = pages.walk(family, some, config.seed, warning)
    if isinstance(family, TakesCodes):
        made |= pages.sweeps(drawing, family, some, config.seed, warning)
    styles = _styles(config, opened) if isinstance(family, EncodesStyle) else []
    if styles and isinstance(family, EncodesStyle):
        made |= pages.styles(family, some, styles, warning, config.limit)
    paths = []
    for name, picture in made.items():
        paths.append(storage.join(output, f"{name}.png"))
        storage.publish(paths[-1], decode.to_png(np.asarray(picture)))
        if tracker:
            tracker.picture(name, picture, 0)
    print("\n".join(paths))
    return paths


def _rows(config: Config, opened: sampler.Trained) -> list[Row]:
    if config.inputs:
        rows, bad = sampler.rows_of_folder(opened, config.inputs, "--inputs", config.palette)
        _skip(config, bad)
        return rows
    if config.data and opened.family.reads:
        data = DataSet(storage.absolute(config.data, "--data"), config.split)
        shown = opened.images(data).rows_for_sheets(config.limit, opened.frame)
        return sampler.rows_of_data(opened, data, range(len(data)) if config.files else shown)
    return sampler.rows_of_values(opened, config.given, config.limit)


def _with_code(config: Config, family: Family, rows: Sequence[Row]) -> list[Row]:
    require(family, TakesCodes, "--code").check_code(config.code)
    code = torch.tensor([config.code])
    return [replace(row, given={**row.given, "code": code}) for row in rows]


def _skip(config: Config, bad: Sequence[tuple[str, str]]) -> None:
    """Name the inputs that are left out."""
    path = storage.join(storage.absolute(config.output, "--output"), "skipped.json")
    storage.remove(path)  # of an earlier call
    if bad:
        storage.publish_json(path, [{"source": name, "error": reason} for name, reason in bad])
        print(f"--inputs {config.inputs}: {len(bad)} left out, named in {path}:", file=sys.stderr)
        for name, reason in bad[:10]:
            print(f"  {name}: {reason}", file=sys.stderr)


def _styles(config: Config, opened: sampler.Trained, most: int = 120) -> list[Row]:
    if config.styles:
        return sampler.styles_of_folder(opened, storage.absolute(config.styles, "--styles"))
    if not config.data:
        return []
    return sampler.styles_of_data(opened, DataSet(storage.absolute(config.data, "--data"), config.split), most)


def _write_all(family: DrawsSamples, rows: Sequence[Row], way: str, config: Config, output: str) -> None:
    for row in rows:
        for i, picture in enumerate(sampler.sample(family, row.given, row.name, config.count, way, config.seed)):
            storage.publish(storage.join(output, way, f"{row.key or row.name}-{i}.png"), decode.to_png(picture))


if __name__ == "__main__":
    command.main(Config, run, __doc__)
