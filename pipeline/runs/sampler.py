"""Samples of a finished run, one input (row) at a time. Rows are held-out samples, the pictures of a folder, or values
given by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

import models
from models.abilities import DrawsSamples, require
from models.common.seeds import seeded
from models.family import Batch, Facts, Family, FieldSpec
from pipeline.artifacts import storage
from pipeline.artifacts.progress import follow
from pipeline.data import decode, kinds
from pipeline.data.images import Images
from pipeline.data.order import picks, rows_for_sheets
from pipeline.data.shards import DataSet, made_by, require_fields
from pipeline.data.sources import folder
from pipeline.data.tensors import fit, is_blank, to_uint8
from pipeline.runs import checkpoint


@dataclass(frozen=True)
class Trained:
    """A trained family with what its data set told it."""

    name: str
    """Of the family."""
    family: Family
    specs: Mapping[str, FieldSpec]
    facts: Facts
    described: Mapping[str, Any]
    """recipe.json."""

    @property
    def frame(self) -> tuple[int, int]:
        return self.family.recipe.frame

    def images(self, data: DataSet, cache_bytes: int = 1 << 30) -> Images:
        """A data set as the family reads it.

        Raises:
            ValueError: it lacks a field that the family's abilities want, or has one of another kind, or features that
                were computed with something else than those of the training set.
        """
        require_fields(data, {name: self.specs[name] for name in self.family.reads if name in self.specs})
        for name in self.family.reads:
            wanted = self.facts.fields.get(name, {}).get("made_by")
            if wanted and (found := made_by(data, name)) != wanted:
                other = found or "another source"
                raise ValueError(f"{data.root}: {name} is of {other}; the run was trained on {wanted}")
        return Images.of(data, self.family.recipe, self.specs, self.facts, cache_bytes)


def open_run(path: str, stage: str = "") -> Trained:
    """The run in folder `path`, as `checkpoint.restore`."""
    family, described = checkpoint.restore(path, stage)
    name = str(described["family"])
    facts = Facts(**described.get("facts", {}))
    return Trained(name, family, models.load(name).fields(family.recipe), facts, described)


@dataclass(frozen=True)
class Row:
    """One row that is asked for."""

    name: str
    given: Batch
    """A batch of one."""
    shown: tuple[np.ndarray, ...] = ()
    """What it is on a sheet: uint8 `H W 3` (or ids `H W`)."""
    key: str = ""
    """Its name in a file's name; empty: `name`."""
    label: str | None = None
    """Its style label: rows of a sheet cover several."""


@torch.no_grad()
def sample(
    family: DrawsSamples, given: Batch, name: str, count: int, sampler: str = "", seed: int = 0
) -> list[np.ndarray]:
    """`count` outputs (uint8 `H W 3`) for one row; they depend on the run, the seed and the row's name alone."""
    drawn = family.sample(given, count, seeded(seed, sampler, name), sampler)[0]
    return [to_uint8(x) for x in drawn]


BLOCK = 64
"""Samples of one row that are drawn at once by `writer`."""


@dataclass(frozen=True)
class Block:
    """Some samples of one row: a unit of work."""

    row: Row
    first: int
    count: int

    @staticmethod
    def of(rows: Sequence[Row], count: int) -> list[Block]:
        """`count` samples of each row."""
        return [Block(row, i, min(BLOCK, count - i)) for row in rows for i in range(0, count, BLOCK)]


def writer(path: str, stage: str, sampler: str, seed: int, folder: str) -> Callable[[Block], int]:
    """For `pool.each`: draws a block of samples by the run in `path` and writes them to `folder`, `KEY-NUMBER.png`.
    They depend on the run, the seed, the row's name and the block's place alone; the first block's are `sample`'s."""
    family = require(open_run(path, stage).family, DrawsSamples, "jobs.sample")

    def work(block: Block) -> int:
        row = block.row
        name = f"{row.name} from {block.first}" if block.first else row.name
        for i, picture in enumerate(sample(family, row.given, name, block.count, sampler, seed), block.first):
            storage.publish(storage.join(folder, f"{row.key or row.name}-{i}.png"), decode.to_png(picture))
        return block.count

    return work


def cut(run: Trained, image: np.ndarray, field: str = "target") -> np.ndarray:
    """The centre of a picture (uint8 `H W 3`, or ids `H W`), as the run's frame."""
    nearest = kinds.named(run.specs[field].kind).nearest
    return fit(image, run.frame, 1.0, (0.5, 0.5), nearest, run.family.recipe.fit)


def of_image(run: Trained, image: np.ndarray, name: str = "", field: str = "input") -> Row:
    """A row of one picture (uint8 `H W 3`, or ids `H W`)."""
    piece, spec = cut(run, image, field), run.specs[field]
    given = kinds.named(spec.kind).batch(field, [piece], spec, {}, [0.0])
    return Row(name, {"index": torch.zeros(1, dtype=torch.int64), **given}, (piece,))


def chosen_rows(rows: Sequence[Row], count: int) -> list[Row]:
    """`count` rows for a sheet: not blank, their labels in turn."""
    pictures = [row.shown[0] if row.shown else None for row in rows]

    def blank(place: int) -> bool:
        picture = pictures[place]
        return picture is not None and is_blank(picture)

    return [rows[i] for i in rows_for_sheets(count, [row.label for row in rows], blank)]


def rows_of_data(run: Trained, data: DataSet, positions: Sequence[int]) -> list[Row]:
    """Rows with the fields that the family reads, of samples of a data set."""
    images, fields = run.images(data), list(run.family.reads)
    found = []
    for p in follow(positions, "read inputs", unit="samples"):
        batch = images.centred([p], fields, run.frame)
        texts, shown = [], []
        for name in fields:
            kind = kinds.named(data.fields[name].kind)
            value = kind.shown(batch[name][0], dict(run.facts.fields.get(name, {})))
            if kind.name == "tokens":
                texts.append(images(p, name)[0])  # as it was written, with words that the run does not know
            elif isinstance(value, str):
                texts.append(value)
            else:
                shown.append(images.cut(p, name, run.frame))
        found.append(
            Row(" ".join([data.keys[p], *filter(None, texts)]), batch, tuple(shown), data.keys[p], data.labels[p])
        )
    return found


def rows_of_folder(run: Trained, path: str, option: str, palette: str = "") -> tuple[list[Row], list[tuple[str, str]]]:
    """Rows of a folder of pictures, for families that read one picture; and (path below the folder, reason) of those
    that cannot be one.

    Raises:
        ValueError: the family reads something else, or no picture there can be read.
    """
    [field, *others] = run.family.reads or ("",)
    if others or field not in run.specs or not kinds.named(run.specs[field].kind).pixels:
        reads = ", ".join(f"{n} ({run.specs[n].kind})" for n in run.family.reads) or "no input"
        raise ValueError(f"{option}: is for families that read one picture; {run.name} reads {reads}")
    found, bad = [], list[tuple[str, str]]()
    kind = kinds.named(run.specs[field].kind).pixels
    pictures = folder.images(storage.absolute(path, option), kind, palette, bad=bad)
    for name, image in follow(pictures, "read inputs", unit="pictures"):
        try:
            found.append(replace(of_image(run, image, name, field), label=name.rpartition("/")[0]))
        except ValueError as error:
            bad.append((name, str(error)))
    if not found:
        raise ValueError(f"{option} {path}: none of its images can be used; {bad[0][0]}: {bad[0][1]}")
    return found, bad


def rows_of_values(run: Trained, values: Mapping[str, str], count: int) -> list[Row]:
    """Rows of values as a person writes them (`class=3`); without any and for a family that reads classes alone, one
    row of each class; for one without an input, `count` rows.

    Raises:
        ValueError: a field that the family does not read, one that is missing, or not a value of its kind.
    """
    reads = run.family.reads
    if unknown := [name for name in values if name not in reads]:
        raise ValueError(
            f"--given {unknown[0]}={values[unknown[0]]}: {run.name} reads {', '.join(reads) or 'no input'}"
        )
    if not reads:
        return [Row(f"{i:04d}", {"index": torch.tensor([i])}) for i in range(count)]
    lots: list[dict[str, str]] = [dict(values)]
    if not values and len(reads) == 1 and run.specs[reads[0]].kind == "class":
        lots = [{reads[0]: str(c)} for c in range(run.facts.classes(reads[0]))]
    found = []
    for number, lot in enumerate(lots):
        if missing := [name for name in reads if name not in lot]:
            raise ValueError(
                f"{run.name} reads {', '.join(reads)}: give --data, --inputs or --given {missing[0]}=VALUE"
            )
        batch: Batch = {"index": torch.tensor([number])}
        texts = []
        for name, text in lot.items():
            kind, facts = kinds.named(run.specs[name].kind), dict(run.facts.fields.get(name, {}))
            batch |= kind.batch(name, [kind.parse(text, facts)], run.specs[name], facts, [0.0])
            texts.append(str(kind.shown(batch[name][0], facts)))
        found.append(Row(" ".join(texts), batch))
    return found


def styles_of_data(run: Trained, data: DataSet, most: int) -> list[Row]:
    """The targets of at most `most` samples, as rows of one picture."""
    if "target" not in data.fields:
        return []
    images = Images.of(data, run.family.recipe, run.specs, run.facts)
    every = follow(picks(len(data), most), "read styles", unit="pictures")
    return [Row(data.keys[p], {}, (images.cut(p, "target", run.frame),), label=data.labels[p]) for p in every]


def styles_of_folder(run: Trained, path: str, option: str) -> tuple[list[Row], list[tuple[str, str]]]:
    """The pictures of a folder, as rows of one picture; and (path below the folder, reason) of those that cannot be
    read.

    Raises:
        ValueError: no picture there can be read.
    """
    bad: list[tuple[str, str]] = []
    pictures = follow(folder.images(storage.absolute(path, option), bad=bad), "read styles", unit="pictures")
    found = [Row(name, {}, (cut(run, image),), label=name.rpartition("/")[0]) for name, image in pictures]
    if not found:
        raise ValueError(f"{option} {path}: none of its images can be used; {bad[0][0]}: {bad[0][1]}")
    return found, bad
