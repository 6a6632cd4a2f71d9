"""Find each image's closest and furthest in style:
python -m jobs.neighbours exact --data data/demo --descriptors data/styles --output data/neighbours

The first word is the method: `exact` and `certified` give the same lists; `index` is for many short descriptors, and
takes the closest from a FAISS index (their recall is measured, and noted on the card). The lists do not depend on
workers, blocks or schedule. The same command again resumes.

--far-cap 0.1: no image in more than a tenth of the furthest lists, with as much distance as that leaves.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from PIL import Image

from jobs import command
from pipeline.artifacts import artifact, storage
from pipeline.data.shards import DataSet
from pipeline.neighbours.options import Certified, Exact, Index
from pipeline.neighbours.run import Search

if TYPE_CHECKING:
    from pipeline.tracking.journal import Tracker

Method = (
    Annotated[Exact, tyro.conf.subcommand("exact")]
    | Annotated[Certified, tyro.conf.subcommand("certified")]
    | Annotated[Index, tyro.conf.subcommand("index")]
)


@dataclass(frozen=True)
class Config:
    """Whose neighbours, where to, and how."""

    descriptors: str
    """Folder of the descriptors (jobs.describe)."""
    output: str
    """Folder of the neighbour lists, local; with `exact` also s3://."""
    search: Annotated[Method, tyro.conf.arg(name="")]
    """How."""
    data: str | None = None
    """Folder of the data set that was described; none: no sheet of pictures, and nothing about labels."""
    split: str = "train"
    """Split of the data set."""
    dry_run: bool = False
    """Print what the search will take, and stop there."""


def run(config: Config, tracker: Tracker | None = None) -> artifact.Card:
    """Find what is missing; returns the card.

    Raises:
        ValueError: as `Search` and `Search.run`.
    """
    began = time.perf_counter()
    folder = storage.output(config.output)
    source = storage.absolute(config.descriptors, "--descriptors")
    data = DataSet(storage.absolute(config.data, "--data"), config.split) if config.data is not None else None
    search = Search(source, folder, config.search, data)
    if config.dry_run:
        request = search.check()
        search.foretell()
        return request
    card = search.run()
    seconds, lists = time.perf_counter() - began, config.search
    print(f"{card['rows']} images, {lists.near} closest and {lists.far} furthest each, {seconds:.1f} s: {folder}")
    shown = ("far_", "same_", "without", "random", "recall_", "index", "compared")
    print(", ".join(f"{k} {v}" for k, v in card["notes"].items() if k.startswith(shown)))
    if tracker is not None:
        _track(tracker, folder, card["notes"], seconds)
    return card


def _track(tracker: Tracker, folder: str, notes: dict[str, Any], seconds: float) -> None:
    shown = ("far_", "same_", "recall_")
    numbers = {k: float(v) for k, v in notes.items() if k.startswith(shown) and not isinstance(v, list)}
    tracker.scalars({f"neighbours/{k}": v for k, v in {**numbers, "seconds": seconds}.items()}, 0)
    sheet = storage.join(folder, "sheet.png")
    if storage.exists(sheet):
        tracker.picture("neighbours", Image.open(io.BytesIO(storage.read(sheet))), 0)
    tracker.file(storage.join(folder, "card.json"))


if __name__ == "__main__":
    command.main(tyro.conf.CascadeSubcommandArgs[Config], run, __doc__)
