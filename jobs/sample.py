"""Many plausible outputs for each input: samples, style transfer, a walk between two styles, the map of styles.

    python -m jobs.sample --run RUN --data DATASET --output DIR --count 8
    python -m jobs.sample --run RUN --inputs FOLDER --styles FOLDER --output DIR
    python -m jobs.sample --run RUN --given class 3 --output DIR
    python -m jobs.sample --run RUN --code 3 0.5 -1 --output DIR

Inputs are held-out samples of a data set, a folder of images, or values given by hand. A family without an input needs
none of them. A sample depends only on the run, the seed, its input's name and its index. A family with latents shows
walks between two of them, infoGAN a sweep of each code. A family that answers questions writes answers.json.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from jobs import command
from models.abilities import Answers, DrawsSamples, EncodesStyle, TakesCodes, WalksLatents, require
from models.family import Family
from pipeline.artifacts import kept, pool, storage
from pipeline.artifacts.progress import Progress
from pipeline.data import decode
from pipeline.data.shards import DataSet
from pipeline.evaluation import pages
from pipeline.runs import checkpoint, sampler
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
    """A folder of style images; none: the targets of --data. Those that cannot be read: skipped-styles.json."""
    split: str = "val"
    """Split of --data."""
    stage: str = ""
    """Use the weights at the end of this stage; `best`: the checkpoint with the lowest held-out figure, of the last
    stage that has one; none: the final ones."""
    count: int = 6
    """Samples per input and sampler."""
    limit: int = 6
    """Inputs shown on the sheets; the choice is fixed. `--files` is for all inputs."""
    samplers: tuple[str, ...] = ()
    """Ways to draw samples; none: all that the family has."""
    files: bool = False
    """Write each sample as a PNG of its own, for all inputs."""
    workers: int = 0
    """Ray actors that draw the samples of `--files`; does not change them. 0: in this process."""
    seed: int = 0
    """Random seed."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.limit < 1:
            raise ValueError(f"--count {self.count}, --limit {self.limit}: give at least 1")
        if self.workers < 0:
            raise ValueError(f"--workers {self.workers}: give at least 0")
        if sum(map(bool, (self.data, self.inputs, self.given))) > 1:
            raise ValueError("give one of --data (a data set), --inputs (a folder of images) and --given (values)")


def run(config: Config, tracker: Tracker | None = None) -> list[str]:
    """Draw and save the sheets (or the answers); returns their paths. They are kept while the run's weights, the data
    set and the options are the same; those of a folder of images (--inputs, --styles) are always made anew.

    Raises:
        ValueError: no inputs, a run that is not finished, or one that neither draws samples nor answers.
    """
    output = storage.output(config.output, run=config.run, data=config.data)
    opened = sampler.open_run(storage.absolute(config.run, "--run"), config.stage)
    known = not (config.inputs or config.styles or config.files)
    request = _request(config) if known else {}
    names = kept.find(output, request) if known else None
    if names is None:
        kept.forget(output)
        with Progress("sample", outer=True):
            names = _draw(config, opened, output)
        if known:
            kept.keep(output, request, names)
    paths = [storage.join(output, name) for name in names]
    print("\n".join(paths))
    for name, path in zip(names, paths, strict=True):
        if tracker and name.endswith(".png"):
            tracker.picture(name.removesuffix(".png"), Image.open(io.BytesIO(storage.read(path))), 0)
    return paths


def _request(config: Config) -> dict[str, Any]:
    """What the pages depend on: the run's weights, the data, the options."""
    data = DataSet(storage.absolute(config.data, "--data"), config.split).fingerprint if config.data else ""
    weights = checkpoint.identity(storage.absolute(config.run, "--run"), config.stage)
    made_with = {name: value for name, value in asdict(config).items() if name not in ("output", "workers")}
    return {**made_with, "version": pages.VERSION, "run": weights, "data": data}


def _draw(config: Config, opened: sampler.Trained, output: str) -> list[str]:
    """Write all pages; returns their names."""
    rows = _rows(config, opened)
    some = sampler.chosen_rows(rows, config.limit)
    family, warning = opened.family, note(dict(opened.described))
    if isinstance(family, Answers):
        storage.publish_json(storage.join(output, "answers.json"), pages.answers(family, rows, config.count))
        return ["answers.json"]
    drawing = require(family, DrawsSamples, "jobs.sample")
    if config.code:
        rows, some = _with_code(config, family, rows), _with_code(config, family, some)
    made = {}
    for way in config.samplers or drawing.samplers:
        made[f"samples-{way}"] = pages.samples(drawing, some, config.count, way, config.seed, warning)
        if config.files:
            _write_all(rows, way, config, output)
    if isinstance(family, WalksLatents):
        made["walk"] = pages.walk(family, some, config.seed, warning)
    if isinstance(family, TakesCodes):
        made |= pages.sweeps(drawing, family, some, config.seed, warning)
    styles = _styles(config, opened) if isinstance(family, EncodesStyle) and (config.styles or config.data) else []
    if styles and isinstance(family, EncodesStyle):
        made |= pages.styles(family, some, styles, warning, config.limit)
    for name, picture in made.items():
        storage.publish(storage.join(output, f"{name}.png"), decode.to_png(np.asarray(picture)))
    return [f"{name}.png" for name in made]


def _rows(config: Config, opened: sampler.Trained) -> list[Row]:
    if config.inputs:
        rows, bad = sampler.rows_of_folder(opened, config.inputs, "--inputs", config.palette)
        _skip(config, "inputs", "skipped.json", bad)
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


def _skip(config: Config, option: str, name: str, bad: Sequence[tuple[str, str]]) -> None:
    """Name the pictures that are left out, in OUTPUT/`name`."""
    path = storage.join(storage.absolute(config.output, "--output"), name)
    storage.remove(path)  # of an earlier call
    if bad:
        storage.publish_json(path, [{"source": name, "error": reason} for name, reason in bad])
        print(f"--{option} {getattr(config, option)}: {len(bad)} left out, named in {path}:", file=sys.stderr)
        for name, reason in bad[:10]:
            print(f"  {name}: {reason}", file=sys.stderr)


def _styles(config: Config, opened: sampler.Trained, most: int = 120) -> list[Row]:
    if config.styles:
        found, bad = sampler.styles_of_folder(opened, config.styles, "--styles")
        _skip(config, "styles", "skipped-styles.json", bad)
        return found
    return sampler.styles_of_data(opened, DataSet(storage.absolute(config.data, "--data"), config.split), most)


def _write_all(rows: Sequence[Row], way: str, config: Config, output: str) -> None:
    run = storage.absolute(config.run, "--run")
    arguments = [run, config.stage, way, config.seed, storage.join(output, way)]
    blocks = sampler.Block.of(rows, config.count)
    drawn = pool.each(sampler.writer, arguments, blocks, config.workers, what="sample", unit="blocks")
    print(f"{sum(count for _, count in drawn)} samples: {arguments[-1]}")


if __name__ == "__main__":
    command.main(Config, run, __doc__)
