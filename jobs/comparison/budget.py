"""How long each run of a comparison is: presets stretched to one budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from jobs.comparison.rows import TOLERANCE, Entry
from jobs.comparison.runs import Planned
from models.family import Stage
from pipeline.artifacts import pool, storage
from pipeline.evaluation import cost
from pipeline.runs.sampler import open_run
from pipeline.training.loop import fit

UNITS = ("updates", "images", "seconds")
"""Of a budget; seconds are CPU-seconds."""
TRIAL = 40
"""Generator updates of the run by which seconds become updates; with searches a whole period, if that is longer."""


def lengths(
    config: Any,
    rows: list[Entry],
    reads: Mapping[str, str],
    made: Mapping[str, Mapping[str, str]],
    root: str,
    trial: int = TRIAL,
) -> list[Entry]:
    """The rows, stretched to the budget. Raises ValueError, as `Entry.within`."""
    for unit in ("updates", "images"):
        if budget := getattr(config, unit):
            return [row.within(budget, unit) for row in rows]
    trials = [
        Planned(row.of(_period(row, trial), "updates"), 0, reads[row.name], made[row.name], f"{root}/{row.name}/trial")
        for row in rows
    ]
    for _ in pool.each(
        _timed, (config.weights, config.threads), trials, config.workers, config.threads, what="time", unit="families"
    ):
        pass
    measured = {row.name: storage.read_json(f"{root}/{row.name}/trial/seconds.json") for row in rows}
    return [_by_seconds(row, config.seconds, measured[row.name]) for row in rows]


def _period(row: Entry, least: int) -> int:
    """`least`, or a whole period between two searches, where there are any."""
    return max([least, *(stage.refresh_every for stage in row.stages if stage.images)])


def _timed(weights: str, threads: int) -> Callable[[Planned], None]:
    """For `pool.each`: what is measured already is kept, and refused by `fit` if it was of another recipe or data."""

    def work(plan: Planned) -> None:
        try:
            fit(plan.job(weights, threads))
        except FloatingPointError as error:
            raise ValueError(f"--families {plan.entry.name}: its trial failed ({error}); change or drop it") from error
        trained, path = storage.join(plan.folder, "train"), storage.join(plan.folder, "seconds.json")
        if not storage.exists(path):
            storage.publish_json(path, cost.typical_seconds(trained, open_run(trained).family))

    return work


def _by_seconds(row: Entry, seconds: float, measured: Mapping[str, tuple[int, float]]) -> Entry:
    """Stretched so that its stages take about so many CPU-seconds; those that are not stretched (StEP's mapper) take
    what they took.

    Raises:
        ValueError: these alone take longer, or the schedule comes to another length.
    """

    def predicted(stages: list[Stage]) -> dict[str, float]:
        return {s.name: s.images / s.batch * measured[s.name][1] for s in stages if s.images}

    once, batches = predicted(row.stages), {stage.name: stage.batch for stage in row.stages}
    fixed = sum(images / batches[name] * each for name, (images, each) in measured.items() if name not in once)
    if fixed >= seconds:
        raise ValueError(f"--seconds {seconds:g}: {row.name} takes {fixed:.0f} for what does not grow; give more")
    found = replace(row, recipe=row.recipe.stretched((seconds - fixed) / sum(once.values())))
    comes_to = fixed + sum(predicted(found.stages).values())
    if abs(comes_to - seconds) > TOLERANCE * seconds:
        raise ValueError(f"--seconds {seconds:g}: the schedule of {row.name} comes to {comes_to:.3g} s; give more")
    return found
