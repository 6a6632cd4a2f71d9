"""How rare each class's colour is in each picture of a labelled data set: python -m jobs.rarity --data DIR --output DIR

For `jobs.train imle --rarity DIR`, which draws rare pictures more often and weighs rare classes more in the loss. The
same command again resumes; parts do not depend on the number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs import command
from pipeline.artifacts import artifact, storage
from pipeline.artifacts.fill import Parts, Request, fill
from pipeline.data.shards import DataSet
from pipeline.training import rarity

if TYPE_CHECKING:
    from pipeline.tracking.journal import Tracker


@dataclass(frozen=True)
class Config:
    """What to estimate, and where to."""

    data: str
    """Data set folder with label maps as inputs (of jobs.shard)."""
    output: str
    """Folder of the artifact."""
    classes: int
    """Number of classes: ids 0 ... classes - 1."""
    split: str = "train"
    other: bool = False
    """The last class takes every id from there on, as the recipe's `--other` does."""
    least: int = rarity.LEAST
    """Fewest images with a class for which its colour density is estimated."""
    workers: int = 2
    """Ray actors; does not change a byte. 0: in this process."""

    def __post_init__(self) -> None:
        if self.classes < 1 or self.workers < 0:
            raise ValueError(f"--classes {self.classes}, --workers {self.workers}: give at least 0, 0")


def run(config: Config, tracker: Tracker | None = None) -> artifact.Card:
    """Make the artifact, or return the card of a finished one.

    Raises:
        ValueError: inputs that are no label maps, an id outside the classes, or another artifact in the folder.
    """
    root, folder = storage.absolute(config.data, "--data"), storage.output(config.output)
    data = DataSet(root, config.split)
    if "input" not in data.fields or data.fields["input"].kind != "labels":
        raise ValueError(f"--data {root}: its inputs are no label maps (jobs.shard: folder labels/, or --palette)")
    inputs = {"dataset": data.fingerprint, "split": config.split}
    options = {"classes": config.classes, "other": config.other, "least": config.least}
    arguments = [root, config.split, folder, config.classes, config.other]
    card = fill(
        folder,
        "rarity",
        Request("rarity", rarity.VERSION, inputs, options),
        lambda: rarity.finish(folder, data, config.classes, config.least),
        Parts(data.shards, rarity.shard_counter, arguments, config.workers),
    ).card
    notes = card["notes"]
    print(f"{len(data)} pictures, {sum(notes['estimated'])} of {config.classes} classes estimated: {folder}")
    for c, (pictures, area, known) in enumerate(
        zip(notes["pictures_with_class"], notes["area"], notes["estimated"], strict=True)
    ):
        print(
            f"  class {c}: {pictures} pictures, {area:.1%} of the area"
            + ("" if known else f", not estimated: fewer than --least {config.least} pictures, or colours in a plane")
        )
    if tracker is not None:
        tracker.scalars({"rarity/classes_estimated": float(sum(notes["estimated"]))}, 0)
        tracker.file(storage.join(folder, "card.json"))
    return card


if __name__ == "__main__":
    command.main(Config, run, __doc__)
