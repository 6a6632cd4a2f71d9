"""Edits of one picture, object by object: another class, another style, an object less or more.

    python -m jobs.edit --run RUN --data DATASET --key KEY --list
    python -m jobs.edit --run RUN --data DATASET --key KEY --output DIR --change 12 3 --remove 7 --style 4 0
    python -m jobs.edit --run RUN --data DATASET --output DIR

For families that edit objects. --list names a picture's objects. Edits are applied one upon the other: classes, then
removals, additions, styles; an object that is not edited keeps its style. edited.png is the result, labels.png and
instances.png are its maps (to go on from, with --labels and --instances), edits.png shows each edit. Without any edit,
edits.png shows some edits of a few pictures.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from jobs import command
from models.abilities import EditsObjects, require
from models.family import Batch
from pipeline.artifacts import storage
from pipeline.data import decode, palettes
from pipeline.data.shards import DataSet
from pipeline.data.tensors import fit, to_tensor
from pipeline.evaluation import edits
from pipeline.evaluation.edits import Edit, Picture, State
from pipeline.runs.checkpoint import note
from pipeline.runs.sampler import Trained, open_run

if TYPE_CHECKING:
    from pipeline.tracking.journal import Tracker


@dataclass(frozen=True)
class Config:
    """What to edit, how, and where to."""

    run: str
    """Folder of a training run."""
    output: str = ""
    """Folder for the pictures; not needed with --list."""
    data: str = ""
    """Data set with the picture's maps."""
    split: str = "val"
    """Split of --data."""
    key: str = ""
    """The picture: a sample's key in --data."""
    labels: str = ""
    """Or: a file with its label map."""
    instances: str = ""
    """And a file with its instance map; needed for a run that was trained with instance maps."""
    palette: str = ""
    """If --labels is painted: which colour is which class, as in jobs.shard; none: its pixels are class ids."""
    list: bool = False
    """Print the picture's objects (id, class, pixels, box, number of styles), and do nothing else."""
    change: tuple[tuple[int, int], ...] = ()
    """OBJECT CLASS, as often as you like: the object becomes of that class."""
    remove: tuple[int, ...] = ()
    """OBJECT: what surrounds it takes its place."""
    add: tuple[tuple[int, int, int, int, int], ...] = ()
    """CLASS TOP LEFT HEIGHT WIDTH: a new object, a rectangle, in pixels. Its id is one above the highest."""
    add_mask: tuple[tuple[int, str], ...] = ()
    """CLASS FILE: a new object where the file's pixels are not 0 (one channel, of the maps' size)."""
    style: tuple[tuple[int, int], ...] = ()
    """OBJECT STYLE: the object gets this style of its class, numbered from 0."""
    show_styles: tuple[int, ...] = ()
    """OBJECT: the sheet also shows it in --count styles."""
    count: int = 4
    """Styles of an object that a sheet shows."""
    limit: int = 3
    """Pictures of the sheet without edits; the choice is fixed."""
    stage: str = ""
    """Use the weights at the end of this stage; none: the final ones."""
    seed: int = 0
    """Root of the styles that are not chosen."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.limit < 1:
            raise ValueError(f"--count {self.count}, --limit {self.limit}: give at least 1")
        if bool(self.data) == bool(self.labels):
            raise ValueError("give either --data (a data set) or --labels (a file with a label map)")
        if self.data and not self.key and (self.edited or self.list):
            raise ValueError("--key is missing: name the sample of --data that is meant")

    @property
    def edited(self) -> bool:
        """Whether an edit is asked for."""
        return any((self.change, self.remove, self.add, self.add_mask, self.style, self.show_styles))


def run(config: Config, tracker: Tracker | None = None) -> list[str]:
    """Edit and save; returns the paths (none with --list).

    Raises:
        ValueError: a family that edits no objects, or an edit that cannot be: no such object, class or style.
    """
    opened = open_run(storage.absolute(config.run, "--run"), config.stage)
    family = require(opened.family, EditsObjects, "jobs.edit")
    pictures = list(_pictures(config, opened, family))
    if config.list:
        print(edits.table(family, pictures[0].start))
        return []
    output, warning = storage.output(config.output, run=config.run, data=config.data), note(dict(opened.described))
    files: dict[str, bytes] = {}
    if config.edited:
        [picture] = pictures
        added = [one[0] for one in config.add] + [one[0] for one in config.add_mask]
        for line in edits.untrained(family, [kind for _, kind in config.change] + added):
            print(line, file=sys.stderr)
        done = edits.applied(family, picture.start, _edits(config, picture, len(family.styles())), config.seed)
        last = done[-1][0] if done else picture.start
        for one in config.show_styles:
            with edits.named(f"--show-styles {one}"):
                done += edits.in_styles(family, last, one, config.count, config.seed)
        edited = edits.drawn(family, last, config.seed)
        files["edited.png"] = decode.to_png(edited)
        for name, ids in zip(("labels", "instances"), last.maps, strict=True):
            suffix, content = decode.ids_file(ids.numpy())
            files[f"{name}.{suffix}"] = content
        sheet = edits.chosen_sheet(family, picture, done, config.seed, warning)
        if tracker:
            tracker.picture("edited", Image.fromarray(edited), 0)
    else:
        sheet = edits.proposed_sheet(family, pictures, config.count, config.seed, warning)
    files["edits.png"] = decode.to_png(np.asarray(sheet))
    for name, content in files.items():
        storage.publish(storage.join(output, name), content)
    if tracker:
        tracker.picture("edits", sheet, 0)
    paths = [storage.join(output, name) for name in files]
    print("\n".join(paths))
    return paths


def _edits(config: Config, picture: Picture, classes: int) -> list[Edit]:
    """In the order in which they are applied."""
    found = [edits.change(one, to, classes) for one, to in config.change]
    found += [edits.remove(one) for one in config.remove]
    for kind, *box in config.add:
        option = f"--add {kind} {' '.join(map(str, box))}"
        with edits.named(option):
            found.append(edits.add(option, kind, edits.rectangle(box, picture.start.maps[0].shape), classes))
    for kind, path in config.add_mask:
        found.append(edits.add(f"--add-mask {kind} {path}", kind, _read(path, "--add-mask") != 0, classes))
    return found + [edits.style(one, number) for one, number in config.style]


def _pictures(config: Config, opened: Trained, family: EditsObjects) -> Iterator[Picture]:
    reads, frame = list(opened.family.reads), opened.frame
    if config.labels:
        given = edits.with_objects(_given(config, opened), reads)
        yield Picture(config.labels.rpartition("/")[2], State(family.object_maps(given)))
        return
    data = DataSet(storage.absolute(config.data, "--data"), config.split)
    images = opened.images(data)
    if config.key and config.key not in data.keys:
        raise ValueError(f"--key {config.key}: no such sample in {config.split}: {data.keys[0]} to {data.keys[-1]}")
    positions = [data.keys.index(config.key)] if config.key else images.rows_for_sheets(config.limit, frame)
    for p in positions:
        truth = images.cut(p, "target", frame) if "target" in data.fields else None
        given = edits.with_objects(images.centred([p], reads, frame), reads)
        yield Picture(data.keys[p], State(family.object_maps(given)), truth)


def _given(config: Config, opened: Trained) -> Batch:
    """The maps of the files, cut to the run's frame."""
    maps = {opened.family.reads[0]: _read(config.labels, "--labels", config.palette)}
    if config.instances:
        maps["instances"] = _read(config.instances, "--instances")
    elif "instances" in opened.family.reads:
        raise ValueError("--instances is missing: this run was trained with instance maps")
    sizes = [" x ".join(map(str, x.shape)) for x in maps.values()]
    if sizes[0] != sizes[-1]:
        raise ValueError(f"--instances {config.instances}: {sizes[-1]} pixels, --labels: {sizes[0]}")
    cut = {k: fit(x.numpy(), opened.frame, 1.0, (0.5, 0.5), True, opened.family.recipe.fit) for k, x in maps.items()}
    return {"index": torch.zeros(1, dtype=torch.int64), **{name: to_tensor([x]) for name, x in cut.items()}}


def _read(path: str, option: str, palette: str = "") -> torch.Tensor:
    """A file's ids, int64 `H W`."""
    with edits.named(f"{option} {path}"):
        data = storage.read(storage.absolute(path, option))
        image = decode.pixels(data, "image" if palette else "labels")
        if palette:
            image, _ = palettes.named(palette).ids(image, path.lower().endswith(decode.LOSSLESS))
    return to_tensor([image])[0]


if __name__ == "__main__":
    command.main(Config, run, __doc__)
