"""Match each training pair with its nearest sample: python -m jobs.match --run RUN --data DIR --output DIR --samples 20

For a run of conditional IMLE: the search that training does, over the whole data set, on a pool of Ray actors of any
size. `jobs.train imle --start crn CHECKPOINT --matches DIR` continues from there with the result. The same checkpoint
and step give the same matches for any number of actors; the same command again resumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from jobs import command
from models.abilities import SearchesNearest, require
from pipeline.artifacts import artifact, storage
from pipeline.artifacts.fill import Parts, Request, fill
from pipeline.data import decode
from pipeline.data.shards import DataSet
from pipeline.runs import checkpoint
from pipeline.training import matches

if TYPE_CHECKING:
    from pipeline.tracking.journal import Tracker


@dataclass(frozen=True)
class Config:
    """What to match, and where to."""

    run: str
    """Folder of a training run that searches for matches (conditional IMLE)."""
    data: str
    """Data set folder."""
    output: str
    """Folder of the artifact."""
    checkpoint: str = ""
    """A checkpoint of the run (checkpoints/N.pt, stages/NAME.pt); none: its newest."""
    weights: str = "random"
    """VGG checkpoint of the distance, the run's: path, URL, `torchvision` or `random`."""
    rarity: str = ""
    """Rarity artifact, where the run was trained with one."""
    split: str = "train"
    samples: int = 0
    """m: candidates of each pair; 0: the recipe's (which may be of a search level by level)."""
    search: Literal["", "exact", "projected"] = ""
    """How; none: as the recipe says (exact, unless changed)."""
    step: int = 0
    """Part of the noise's seeds: that of one of the training's own searches (those of `settle` count on from `imle`),
    or any other number."""
    sheet: int = 16
    """Pairs on nearest.png, a fixed choice: input, target and the nearest sample found; 0: no sheet."""
    workers: int = 2
    """Ray actors; does not change a byte. 0: in this process."""
    threads: int = 1
    """CPU threads of each actor."""

    def __post_init__(self) -> None:
        if self.samples < 0 or self.sheet < 0 or self.workers < 0 or self.threads < 1:
            given = f"--samples {self.samples}, --sheet {self.sheet}"
            raise ValueError(f"{given}, --workers {self.workers}, --threads {self.threads}: at least 0, 0, 0, 1")


def run(config: Config, tracker: Tracker | None = None) -> artifact.Card:
    """Make the artifact, or return the card of a finished one.

    Raises:
        ValueError: no checkpoint, or weights, data or rarity that are not the run's.
    """
    folder, root = storage.absolute(config.run, "--run"), storage.absolute(config.data, "--data")
    output = storage.output(config.output)
    path = storage.absolute(config.checkpoint, "--checkpoint") if config.checkpoint else checkpoint.latest_path(folder)
    if path is None:
        raise ValueError(f"--run {folder} has no checkpoint yet")
    rare = storage.absolute(config.rarity, "--rarity") if config.rarity else ""
    data = DataSet(root, config.split)
    family, given = matches.open_run(folder, path, data, config.weights, rare)
    samples = require(family, SearchesNearest, "jobs.match").search_by(config.search, config.samples)
    inputs = {**given, "checkpoint": storage.sha256_file(path)}
    how = config.search or getattr(family.recipe, "search", "exact")
    options = {"samples": samples, "step": config.step, "search": how, **family.recipe.candidates}
    card = fill(
        output,
        "match",
        Request("matches", matches.VERSION, inputs, options),
        lambda: artifact.finish(output, data.shards, matches.notes(output, data, samples)),
        Parts(
            data.shards,
            matches.shard_matcher,
            [family, root, config.split, output, samples, config.step],
            config.workers,
            config.threads,
        ),
    ).card
    picture = matches.nearest(family, data, output, config.sheet) if config.sheet else None
    if picture is not None:
        storage.publish(storage.join(output, "nearest.png"), decode.to_png(np.asarray(picture)))
    print(f"{len(data)} pairs matched among {samples or 'levels of'} samples each: {output}")
    print(", ".join(f"{name} {value:.4g}" for name, value in card["notes"].items()))
    if tracker is not None:
        tracker.scalars({f"match/{name}": value for name, value in card["notes"].items()}, 0)
        tracker.file(storage.join(output, "card.json"))
        if picture is not None:
            tracker.picture("nearest", picture, 0)
    return card


if __name__ == "__main__":
    command.main(Config, run, __doc__)
