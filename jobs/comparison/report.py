"""What jobs.compare writes: DIR/report with the page, its tables and pictures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from jobs import command
from jobs.comparison.budget import UNITS
from jobs.comparison.runs import Planned
from pipeline.artifacts import kept, storage
from pipeline.data.shards import DataSet
from pipeline.evaluation import comparison, comparison_page
from pipeline.evaluation.comparison import Result
from pipeline.evaluation.comparison_page import Facts
from pipeline.runs.sampler import open_run
from pipeline.tracking.journal import Tracker

VERSION = 2
"""Raised when the report changes: reports of before are then made anew."""


def told(plan: Planned) -> str:
    """What a run took, or why it failed."""
    if plan.failure:
        return f"{plan.entry.name}, seed {plan.seed}: {plan.failure}"
    _, spent = _read(plan)
    budget = f"{spent['updates']} updates, {spent['images']} images, {spent['cpu_seconds']:.0f} CPU-seconds"
    return f"{plan.entry.name}, seed {plan.seed}: {budget}"


def _read(plan: Planned) -> tuple[Any, Any]:
    """evaluation.json and cost.json of a run."""
    found = [storage.read_json(storage.join(plan.folder, "evaluation", f"{n}.json")) for n in ("evaluation", "cost")]
    return found[0], found[1]


def _result(plan: Planned) -> Result:
    if plan.failure:
        return comparison.failed(plan.entry.name, plan.seed, plan.failure)
    return comparison.result(plan.entry.name, plan.seed, *_read(plan))


def report(config: Any, plans: list[Planned], root: str, parent: Tracker) -> list[Result]:
    """The page and its files, made anew where a figure or a fact has changed; the figures of all runs.

    Raises:
        ValueError: no run could be trained.
    """
    folder = storage.join(root, "report")
    measured = [plan for plan in plans if not plan.failure]
    if not measured:
        raise ValueError(f"{plans[0].entry.name}: {plans[0].failure}; nor could any other run be trained")
    results = [_result(plan) for plan in plans]
    facts = _facts(config, measured)
    request = {"version": VERSION, "results": [asdict(one) for one in results], "sheet": config.sheet}
    request["facts"] = asdict(facts)
    request["runs"] = [storage.read_json(f"{plan.folder}/train/weights.json")["sha256"] for plan in measured]
    names = kept.find(folder, request)
    if names is None:
        kept.forget(folder)
        first = {plan.entry.name: plan for plan in reversed(measured)}  # the first seed's
        shown = [first[name] for name in dict.fromkeys(plan.entry.name for plan in measured)]
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


def _facts(config: Any, plans: list[Planned]) -> Facts:
    """What the page says beside the figures."""
    budget = next(f"{getattr(config, unit):g} {unit}" for unit in UNITS if getattr(config, unit))
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
