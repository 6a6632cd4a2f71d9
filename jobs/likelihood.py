"""How likely every sample of a data set is to a trained run:

    python -m jobs.likelihood --run RUN --data DIR --output DIR

For runs whose family gives a likelihood. Parquet parts, one a shard: `key`, `label`, `log_prob` (nats) and
`bits_per_dimension`, which is what an ideal coder would need. The card names the ten least likely samples. The same
command again resumes; parts do not depend on the number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs import command
from models.abilities import GivesLikelihood, require
from pipeline.artifacts import artifact, storage
from pipeline.artifacts.fill import Parts, Request, fill
from pipeline.data.shards import DataSet, require_fields
from pipeline.evaluation import likelihood
from pipeline.runs import checkpoint
from pipeline.runs.sampler import open_run

if TYPE_CHECKING:
    from pipeline.tracking.journal import Tracker


@dataclass(frozen=True)
class Config:
    """What to score, by whom, and where to."""

    run: str
    """Folder of a training run."""
    data: str
    """Data set folder (of jobs.shard); the run's own, or another one with the same fields."""
    output: str
    """Folder of the artifact."""
    split: str = "val"
    stage: str = ""
    """Use the weights at the end of this stage; none: the final ones."""
    batch: int = 32
    """Samples that go through the network at once; may change the last bits."""
    workers: int = 2
    """Ray actors; does not change a byte. 0: in this process."""

    def __post_init__(self) -> None:
        if self.batch < 1 or self.workers < 0:
            raise ValueError(f"--batch {self.batch}, --workers {self.workers}: give at least 1, 0")


def run(config: Config, tracker: Tracker | None = None) -> artifact.Card:
    """Make the artifact, or return the card of a finished one.

    Raises:
        ValueError: a family without a likelihood, data that lack what it reads, or another artifact in the folder.
    """
    root, folder = storage.absolute(config.data, "--data"), storage.output(config.output)
    path, data = storage.absolute(config.run, "--run"), DataSet(root, config.split)
    opened = open_run(path, config.stage)
    require(opened.family, GivesLikelihood, "jobs.likelihood")
    require_fields(data, likelihood.fields_read(opened))
    weights = checkpoint.stage_path(path, config.stage) if config.stage else storage.join(path, "weights")
    inputs = {"dataset": data.fingerprint, "split": config.split, "weights": storage.sha256_file(weights + ".pt")}
    arguments = [path, config.stage, root, config.split, folder, config.batch]
    card = fill(
        folder,
        "likelihood",
        Request("likelihood", likelihood.VERSION, inputs, {"batch": config.batch}),
        lambda: likelihood.finish(folder, data),
        Parts(data.shards, likelihood.shard_scorer, arguments, config.workers),
    ).card
    notes = card["notes"]
    print(f"{card['rows']} samples, {notes['bits_per_dimension']:.4f} bits/dim, {notes['nats']:.2f} nats: {folder}")
    print("  least likely: " + ", ".join(notes["least_likely"]))
    if tracker is not None:
        tracker.scalars({f"likelihood/{name}": float(notes[name]) for name in ("bits_per_dimension", "nats")}, 0)
        tracker.file(storage.join(folder, "card.json"))
    return card


if __name__ == "__main__":
    command.main(Config, run, __doc__)
