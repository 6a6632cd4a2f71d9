"""Compare families on equal terms: one data set, one size, one budget, the same evaluator.

    python -m jobs.compare --data DATASET --size 128 --seconds 900 --families flow:small step:small --output DIR

A row is `[NAME=]FAMILY:PRESET[:FIELD=VALUE,...]`; the presets are stretched to the budget. Families that read label
maps need --labels, a data set of the same pictures; with --source, give --palette. The same command again resumes.
The result is DIR/report/index.html, with its tables beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Literal

from jobs import command
from jobs.comparison.budget import UNITS, lengths
from jobs.comparison.report import report, told
from jobs.comparison.rows import entries
from jobs.comparison.runs import (
    Planned,
    artifacts_of,
    data_sets,
    evaluator,
    refuse_at_once,
    train_and_measure,
)
from jobs.run import tracking_uri
from pipeline.artifacts import pool, storage
from pipeline.evaluation.comparison import Result
from pipeline.evaluation.setting import Options
from pipeline.tracking.journal import Tracker


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """What is compared, on what, how long."""

    net: Literal["", "vgg16", "vgg19"] = ""
    """Network of the perceptual distance and of the features, for all rows; none: VGG-19."""
    families: tuple[str, ...]
    """Rows, as the head of this text says. Differences are taken to the first."""
    output: str
    """Folder of everything."""
    data: str = ""
    """Data set folder; none: --source is sharded."""
    source: str = ""
    """As jobs.shard's."""
    option: dict[str, str] = field(default_factory=dict)
    """NAME VALUE: options of a source of another kind."""
    input_side: Literal["", "left", "right"] = ""
    """Which half of side-by-side images is the input."""
    palette: str = ""
    """--source: inputs are painted label maps; families that read label maps, and the segmenter, get those."""
    resize: int = 0
    """--source: shortest side of the stored images, pixels; 0 keeps the source's own bytes."""
    split: str = "val"
    """Held-out split that is measured."""
    size: int = 128
    """Side of all pictures, pixels."""
    seeds: tuple[int, ...] = (0,)
    """Each row is trained and measured with each of them."""
    updates: int = 0
    """Budget: generator updates of each run."""
    images: int = 0
    """Budget: images seen by each generator."""
    seconds: float = 0.0
    """Budget: CPU-seconds of training. How many updates they are is measured first, once."""
    protocol: Literal["own", "bicyclegan", "imle"] = "bicyclegan"
    near: int = 5
    """Closest images, for families with triplets."""
    far: int = 13
    """Furthest images, for families with triplets."""
    workers: int = 0
    """Ray actors, each training one run at a time; 0: in this process. With --updates or --images it does not change a
    figure of quality; seconds are measured on a busier machine."""
    threads: int = 1
    """Of each run."""
    tracking: str | None = None
    """MLflow tracking URI; none: a database in the output folder. `off`: JSON lines only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [f"--{unit} {getattr(self, unit)}" for unit in UNITS if getattr(self, unit)]
        if len(given) != 1 or min(self.updates, self.images, self.seconds) < 0 or not math.isfinite(self.seconds):
            raise ValueError(f"give one budget, --updates, --images or --seconds, not {', '.join(given) or 'none'}")
        if not self.families or not self.seeds or bool(self.data) == bool(self.source):
            raise ValueError("give --families, --seeds, and either --data or --source")
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"--seeds {' '.join(map(str, self.seeds))}: give each once, from 0 on")
        if self.data and (self.option or self.input_side or self.palette or self.resize):
            raise ValueError("--option, --input-side, --palette and --resize go with --source, not with --data")
        if self.samplers:
            raise ValueError("--samplers: each family is measured by its first way to draw; leave it out")


def run(config: Config) -> list[Result]:
    """Train, measure and report; returns each run's figures.

    Raises:
        ValueError: a row that is none or does not fit the data, no budget or two.
    """
    root = storage.output(config.output)
    uri, rows = tracking_uri(config.tracking, root), entries(config.families, config.size)
    with Tracker(root, uri, job="compare", name=f"compare {root.rsplit('/', 1)[-1]}") as parent:
        parent.parameters({f.name: getattr(config, f.name) for f in fields(config) if f.name != "tracking"})
        parent.description(f"    {command.given()}\n\nmade this, and goes on after an interruption.\n")
        if config.source and (taken := sorted({"data", "labels"} & {row.name for row in rows})):
            raise ValueError(f"--families: {taken[0]} is no name for a row here, the data set lies there")
        data, labels = data_sets(config, root, any(row.labels for row in rows))
        reads = {row.name: labels if row.labels else data for row in rows}
        refuse_at_once(rows, reads, data, labels, config.split, config)
        made = {row.name: artifacts_of(row, reads[row.name], config, root, uri, parent) for row in rows}
        shared = evaluator(config, labels, root)
        stretched = lengths(config, rows, reads, made, root)
        plans = [
            Planned(one.seeded(seed), seed, reads[one.name], made[one.name], f"{root}/{one.name}/seed-{seed}")
            for one in stretched
            for seed in config.seeds
        ]
        arguments = (shared, config.split, uri, parent.as_parent, config.threads)
        there = [plan for plan in plans if plan.finished]
        # Those first, and not counted: the progress would promise an early end.
        for some, what in ((there, ""), ([plan for plan in plans if plan not in there], "train and measure")):
            for number, _ in pool.each(
                train_and_measure, arguments, some, config.workers, config.threads, what=what, unit="runs"
            ):
                print(told(some[number]), flush=True)
        return report(config, plans, root, parent)


if __name__ == "__main__":
    command.main(Config, run, __doc__)
