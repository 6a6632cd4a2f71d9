"""Many plausible images for each input: samples, style transfer, a walk between two styles, the map of styles.

    python -m jobs.sample --run RUN --data DATASET --output DIR --count 8
    python -m jobs.sample --run RUN --inputs FOLDER --styles FOLDER --output DIR

Inputs are held-out samples of a data set, or any folder of images. Each picture depends on the run, the seed and its
input's name alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

import models
from jobs import command
from models.family import Family
from pipeline.artifacts import storage
from pipeline.data import decode, tensors
from pipeline.data.images import Images
from pipeline.data.order import picks, rows_for_sheets
from pipeline.data.shards import DataSet, require_inputs
from pipeline.data.sources import folder
from pipeline.data.tensors import fit, is_blank, to_tensor
from pipeline.runs import checkpoint
from pipeline.runs.checkpoint import note
from pipeline.runs.sampler import Named, flatten, sample
from pipeline.tracking import sheets

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
    """Data set whose held-out samples are the inputs."""
    inputs: str = ""
    """Or: a folder of input images (label maps, for a run that was trained on label maps)."""
    palette: str = ""
    """The colours of --inputs that are painted label maps, as in jobs.shard; none: they hold ids."""
    styles: str = ""
    """A folder of style images; none: the targets of the inputs' data set."""
    split: str = "val"
    stage: str = ""
    """Use the weights at the end of this stage; none: the final ones."""
    count: int = 6
    """Samples per input and sampler."""
    limit: int = 6
    """Inputs on the sheets, a fixed choice; all get their samples as files with `--files`."""
    samplers: tuple[str, ...] = ()
    """Ways to draw codes; none: all that the family has."""
    files: bool = False
    """Write every sample as a PNG of its own, for all inputs."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.limit < 1:
            raise ValueError(f"--count {self.count}, --limit {self.limit}: give at least 1")


def run(config: Config, tracker: Tracker | None = None) -> list[str]:
    """Draw and save the sheets; returns their paths.

    Raises:
        ValueError: no inputs, no styles, or a run that is not finished.
    """
    output = storage.absolute(config.output, "--output")
    family, facts = checkpoint.restore(storage.absolute(config.run, "--run"), config.stage)
    frame = family.recipe.frame
    kind = models.load(str(facts["family"])).input_kind(family.recipe)
    inputs = _inputs(config, frame, kind)
    styles = _styles(config, frame)
    warning = note(facts)
    pages = {}
    labels = _labels(config, inputs)
    shown = _rows(inputs, labels, config.limit)
    some = [inputs[i] for i in shown]
    names = [f"{inputs[i][0]}\n{labels[i] or ''}".strip() for i in shown]
    for sampler in config.samplers or family.samplers:
        drawn = [sample(family, image, name, config.count, sampler, config.seed) for name, image in some]
        cells = [[image, *row] for (_, image), row in zip(some, drawn, strict=True)]
        columns = ["input", *(f"{sampler} {i + 1}" for i in range(config.count))]
        pages[f"samples-{sampler}"] = sheets.sheet(cells, names, columns, f"Samples: {sampler}", warning)
        if config.files:
            _write_all(family, inputs, sampler, config, output)
    if styles:
        chosen = _rows(styles, _labels(config, styles), config.limit)
        pages.update(_style_sheets(family, some, styles, chosen, warning))
    paths = []
    for name, picture in pages.items():
        path = storage.join(output, f"{name}.png")
        storage.publish(path, decode.to_png(np.asarray(picture)))
        paths.append(path)
        if tracker:
            tracker.picture(name, picture, 0)
    print("\n".join(paths))
    return paths


def _rows(images: Sequence[Named], labels: Sequence[str | None], count: int) -> list[int]:
    return rows_for_sheets(count, labels, lambda i: is_blank(images[i][1]))


def _labels(config: Config, images: Sequence[Named]) -> list[str | None]:
    """A data set's own labels; of pictures in a folder, the folder below it that each lies in."""
    data = DataSet(storage.absolute(config.data, "--data"), config.split) if config.data else None
    known = dict(zip(data.keys, data.labels, strict=True)) if data else {}
    return [known[name] if name in known else name.rpartition("/")[0] for name, _ in images]


def _write_all(family: Family, inputs: Sequence[Named], sampler: str, config: Config, output: str) -> None:
    for name, image in inputs:
        for i, picture in enumerate(sample(family, image, name, config.count, sampler, config.seed)):
            storage.publish(storage.join(output, sampler, f"{name}-{i}.png"), decode.to_png(picture))


def _style_sheets(
    family: Family, some: Sequence[Named], styles: Sequence[Named], chosen: Sequence[int], note: str
) -> dict[str, Image.Image]:
    """Transfer (rows = inputs, columns = the chosen styles), the walk from the first of these to the last, the map of
    all."""
    codes = [family.codes(to_tensor([image])) for _, image in styles]
    if any(code is None for code in codes):
        return {}  # a method without style codes
    code = torch.cat([c for c in codes if c is not None])
    cells: list[list[np.ndarray | None]] = [[None, *(styles[i][1] for i in chosen)]]
    for _, image in some:
        out = [family.generate({"input": to_tensor([image])}, code[i : i + 1]) for i in chosen]
        cells.append([image, *(tensors.to_uint8(x[0]) for x in out if x is not None)])
    columns = ["", *(styles[i][0] for i in chosen)]
    made: dict[str, Image.Image] = {
        "transfer": sheets.sheet(cells, ["style", *(n for n, _ in some)], columns, "Style transfer", note)
    }
    walk = []
    for t in np.linspace(0, 1, 9):
        mixed = torch.lerp(code[chosen[0]], code[chosen[-1]], float(t))[None]
        x = family.generate({"input": to_tensor([some[0][1]])}, mixed)
        assert x is not None
        walk.append(tensors.to_uint8(x[0]))
    names = [f"{t:.2f}" for t in np.linspace(0, 1, 9)]
    made["interpolation"] = sheets.strip(walk, names, f"From {styles[chosen[0]][0]} to {styles[chosen[-1]][0]}", note)
    if len(styles) > 2:
        points = flatten(code)
        made["style-map"] = sheets.style_map(points, [image for _, image in styles], "Style codes", note)
    return made


def _inputs(config: Config, frame: tuple[int, int], kind: str) -> list[Named]:
    if bool(config.data) == bool(config.inputs):
        raise ValueError("give either --data (a data set) or --inputs (a folder of images)")
    if config.inputs:
        return _folder(config.inputs, "--inputs", frame, kind, config.palette)
    return _of_data(config, "input", frame, kind=kind)


def _styles(config: Config, frame: tuple[int, int], most: int = 120) -> list[Named]:
    if config.styles:
        return _folder(config.styles, "--styles", frame)
    return _of_data(config, "target", frame, most) if config.data else []


def _folder(path: str, option: str, frame: tuple[int, int], kind: str = "image", palette: str = "") -> list[Named]:
    labels = kind == "labels"
    found = list(islice(folder.images(storage.absolute(path, option), kind, palette), 10_000))
    if not found:
        raise ValueError(f"{option} {path}: no images there")
    return [(name, fit(image, frame, 1.0, (0.5, 0.5), nearest=labels)) for name, image in found]


def _of_data(
    config: Config, field: str, frame: tuple[int, int], most: int = 10_000, kind: str = "image"
) -> list[Named]:
    data = DataSet(storage.absolute(config.data, "--data"), config.split)
    if field not in data.fields:
        raise ValueError(f"--data {config.data}: has no field {field!r}, only {', '.join(data.fields)}")
    if field == "input":
        require_inputs(data, kind)
    images = Images(data)
    every = picks(len(data), most)
    nearest = data.fields[field].kind == "labels"
    return [(data.keys[i], fit(images(i, field), frame, 1.0, (0.5, 0.5), nearest)) for i in every]


if __name__ == "__main__":
    command.main(Config, run, __doc__)
