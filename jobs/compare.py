"""Compare families on equal terms: one data set, one size, one budget, the same evaluator.

    python -m jobs.compare --data DATASET --size 128 --seconds 900 --families flow:small step:small --output DIR

A row is `[NAME=]FAMILY:PRESET[:FIELD=VALUE,...]`; the presets are stretched to the budget. Give --labels (or --palette)
where families read label maps: a data set of the same pictures. The same command again resumes. The result is
DIR/report/index.html, with its tables beside it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from jobs import command
from jobs.comparison.budget import lengths
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
from pipeline.artifacts import kept, pool, storage
from pipeline.data.shards import DataSet
from pipeline.evaluation import comparison, comparison_page
from pipeline.evaluation.comparison import Result
from pipeline.evaluation.comparison_page import Facts
from pipeline.evaluation.setting import Options
from pipeline.runs.sampler import open_run
from pipeline.tracking.journal import Tracker

BUDGETS = ("updates", "images", "seconds")
VERSION = 1
"""Raised when the report changes: reports of before are then made anew."""


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """What is compared, on what, how long."""

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
    """Ray actors, each training one run at a time; 0: in this process. Does not change a figure."""
    threads: int = 1
    """Of each run."""
    tracking: str | None = None
    """MLflow tracking URI; none: a database in the output folder. `off`: JSON lines only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [f"--{unit} {getattr(self, unit)}" for unit in BUDGETS if getattr(self, unit)]
        if len(given) != 1 or min(self.updates, self.images, self.seconds) < 0:
            raise ValueError(f"give one budget, --updates, --images or --seconds, not {', '.join(given) or 'none'}")
        if not self.families or not self.seeds or bool(self.data) == bool(self.source):
            raise ValueError("give --families, --seeds, and either --data or --source")


def run(config: Config) -> list[Result]:
    """Train, measure and report; returns each run's figures.

    Raises:
        ValueError: a row that is none or does not fit the data, no budget or two.
    """
    root = storage.output(config.output)
    uri, rows = tracking_uri(config.tracking, root), entries(config.families, config.size)
    with Tracker(root, uri, job="compare", name=f"compare {root.rsplit('/', 1)[-1]}") as parent:
        parent.parameters({f.name: getattr(config, f.name) for f in fields(config)})
        parent.description(f"    {command.given()}\n\nmade this, and goes on after an interruption.\n")
        data, labels = data_sets(config, root, any(row.labels for row in rows))
        reads = {row.name: labels if row.labels else data for row in rows}
        refuse_at_once(rows, reads, config.split, config)
        made = {row.name: artifacts_of(row, reads[row.name], config, root, uri, parent) for row in rows}
        shared = evaluator(config, labels, root)
        stretched = lengths(config, rows, reads, made, root)
        plans = [
            Planned(one.seeded(seed), seed, reads[one.name], made[one.name], f"{root}/{one.name}/seed-{seed}")
            for one in stretched
            for seed in config.seeds
        ]
        arguments = (shared, config.split, uri, parent.as_parent, config.threads)
        for number, _ in pool.each(
            train_and_measure, arguments, plans, config.workers, config.threads, what="train and measure", unit="runs"
        ):
            plan = plans[number]
            spent = _read(plan)[1]
            budget = f"{spent['updates']} updates, {spent['images']} images, {spent['cpu_seconds']:.0f} CPU-seconds"
            print(f"{plan.entry.name}, seed {plan.seed}: {budget}", flush=True)
        return _report(config, plans, root, parent)


def _read(plan: Planned) -> tuple[Any, Any]:
    """evaluation.json and cost.json of a run."""
    found = [storage.read_json(storage.join(plan.folder, "evaluation", f"{n}.json")) for n in ("evaluation", "cost")]
    return found[0], found[1]


def _report(config: Config, plans: list[Planned], root: str, parent: Tracker) -> list[Result]:
    folder = storage.join(root, "report")
    results = [comparison.result(plan.entry.name, plan.seed, *_read(plan)) for plan in plans]
    facts = _facts(config, plans)
    request = {"version": VERSION, "results": [asdict(one) for one in results], "sheet": config.sheet}
    request["facts"] = asdict(facts)
    request["runs"] = [storage.read_json(f"{plan.folder}/train/weights.json")["sha256"] for plan in plans]
    names = kept.find(folder, request)
    if names is None:
        kept.forget(folder)
        first = {plan.entry.name: plan for plan in reversed(plans)}  # the first seed's
        shown = [first[name] for name in dict.fromkeys(plan.entry.name for plan in plans)]
        runs = {p.entry.name: (open_run(f"{p.folder}/train"), DataSet(p.data, config.split)) for p in shown}
        files = comparison_page.files(facts, results, runs, config.sheet, config.seed)
        for name, content in files.items():
            storage.publish(storage.join(folder, name), content)
        names = list(files)
        kept.keep(folder, request, names)
    for name in names:
        parent.file(storage.join(folder, name))
    print(storage.join(folder, "index.html"))
    return results


def _facts(config: Config, plans: list[Planned]) -> Facts:
    """What the page says beside the figures."""
    budget = next(f"{getattr(config, unit):g} {unit}" for unit in BUDGETS if getattr(config, unit))
    record, _ = _read(plans[0])
    seeds = ", ".join(map(str, config.seeds))
    protocols = [value for name, value in record["figures"].items() if name.endswith("/diversity_protocol")]
    notes = [
        f"{config.source or config.data}, {config.size} pixels, budget {budget}, seeds {seeds}.",
        f"{record['figures']['images']:.0f} held-out samples of split {config.split}. Perceptual network: "
        f"{record.get('weights', 'none')}. Diversity: {', '.join(protocols) or 'not measured'}.",
        f"Rows: {', '.join(config.families)}.",
    ]
    if "segmenter_accuracy_real" in record["figures"]:
        real = [record["figures"][f"segmenter_{name}_real"] for name in ("accuracy", "miou")]
        notes.append(f"Labels read back from the true pictures: accuracy {real[0]:.3f}, mIoU {real[1]:.3f}.")
    loud = "The perceptual network has RANDOM weights" if config.weights == "random" else ""
    return Facts("Families compared", command.given(), notes, loud)


if __name__ == "__main__":
    command.main(Config, run, __doc__)
