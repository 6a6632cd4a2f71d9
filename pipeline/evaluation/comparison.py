"""Several runs of several families beside each other: which figures are compared, over the seeds and in pairs."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Column:
    """One figure that is compared."""

    name: str
    title: str
    figure: str
    """The figure's name in evaluation.json, behind its stage or sampler; a pattern, since names say which network and
    how many samples. Empty: it is one of cost.json, of the column's own name."""
    measure: str = ""
    """What takes it: where a run was not measured by it, its reason stands in the cell."""
    better: Literal["more", "less", ""] = ""
    of: Literal["sampler", "stage"] = "sampler"
    """What stands before the figure's name; of several stages the last one counts."""


COLUMNS = (
    Column("reconstruction_psnr", "reconstruction, PSNR (dB)", "psnr", "reconstruction", "more", "stage"),
    Column("reconstruction_ssim", "reconstruction, SSIM", "ssim", "reconstruction", "more", "stage"),
    Column("reconstruction_perceptual", "reconstruction, VGG", "vgg_perceptual-.*", "reconstruction", "less", "stage"),
    Column("best_psnr", "best sample, PSNR (dB)", r"best_of_\d+_psnr", "samples", "more"),
    Column("best_perceptual", "best sample, VGG", r"nearest_of_\d+_vgg_perceptual-.*", "samples", "less"),
    Column("diversity_perceptual", "diversity, VGG", r"diversity_.*_vgg_perceptual-.*", "samples"),
    Column("diversity_l1", "diversity, L1 (0-255)", r"diversity_.*_pixels_l1", "samples"),
    Column("precision", "precision", "precision_vgg_k3", "samples", "more"),
    Column("recall", "recall", "recall_vgg_k3", "samples", "more"),
    Column("density", "density", r"density_vgg_k\d+", "samples", "more"),
    Column("coverage", "coverage", r"coverage_vgg_k\d+", "samples", "more"),
    Column("modes", "modes covered", r"truths_hit_of_\d+", "truths", "more"),
    Column("all_modes", "inputs with all modes", r"truths_all_hit_of_\d+", "truths", "more"),
    Column("on_a_mode", "samples on a mode", r"truths_on_a_truth_of_\d+", "truths", "more"),
    Column("segmentation_accuracy", "labels read back, accuracy", "segmentation_accuracy", "labels", "more"),
    Column("segmentation_miou", "labels read back, mIoU", "segmentation_miou", "labels", "more"),
)
"""Figures of quality: the same for any number of workers, unless the budget is in seconds."""
COSTS = (
    Column("updates", "generator updates", ""),
    Column("images", "images seen", ""),
    Column("cpu_seconds", "CPU-seconds of training", "", better="less"),
    Column("generator_parameters", "parameters of the generator", ""),
    Column("seconds_per_sample", "CPU-seconds a sample", "", better="less"),
)
"""What it took: the clock's figures differ from run to run."""
NO_LABELS = "no label maps of these pictures were given (--labels)"


@dataclass(frozen=True)
class Result:
    """One run's cells."""

    name: str
    seed: int
    figures: Mapping[str, float]
    """Column -> figure."""
    reasons: Mapping[str, str]
    """Column without a figure -> why."""


def result(name: str, seed: int, record: Mapping[str, Any], costs: Mapping[str, Any]) -> Result:
    """From the contents of evaluation.json and cost.json."""
    found: dict[str, float] = {}
    why: dict[str, str] = {}
    for column in COLUMNS:
        values = _values(column, record["figures"], costs["stages"] if column.of == "stage" else [costs["sampler"]])
        if values:
            found[column.name] = values[-1]
        else:
            why[column.name] = _reason(column, record["missing"])
    for column in COSTS:
        if column.name in costs:
            found[column.name] = float(costs[column.name])
        else:
            why[column.name] = record["missing"].get("samples", "not measured")
    return Result(name, seed, found, why)


def failed(name: str, seed: int, reason: str) -> Result:
    """Of a run that could not be trained: no figure."""
    return Result(name, seed, {}, {column.name: reason for column in (*COLUMNS, *COSTS)})


def _values(column: Column, figures: Mapping[str, Any], places: Sequence[str]) -> list[float]:
    """The figures that are this column's, of stages or samplers in the order of `places`."""
    matching = {}
    for name, value in figures.items():
        before, _, figure = name.partition("/")
        if re.fullmatch(column.figure, figure):
            matching[before] = float(value)
    return [matching[place] for place in places if place in matching]


def _reason(column: Column, missing: Mapping[str, str]) -> str:
    if column.measure == "labels":
        return missing.get("samples", NO_LABELS)
    return missing.get(column.measure, "too few held-out samples, or no stage that it can be taken of")


@dataclass(frozen=True)
class Summary:
    """One family's figure over the seeds."""

    mean: float
    spread: float
    """Largest - smallest."""
    seeds: int
    difference: float
    """Mean difference to the first family with the same seed; NaN where it has none."""
    difference_spread: float


def summary(results: Sequence[Result]) -> dict[str, dict[str, Summary]]:
    """Family -> column -> its figure over the seeds; the first family of the results is the one to compare with."""
    names = list(dict.fromkeys(one.name for one in results))
    cells = {(one.name, one.seed): one.figures for one in results}
    made: dict[str, dict[str, Summary]] = {}
    for name in names:
        made[name] = {}
        for column in (*COLUMNS, *COSTS):
            own = {seed: f[column.name] for (n, seed), f in cells.items() if n == name and column.name in f}
            if not own:
                continue
            first = {seed: cells.get((names[0], seed), {}).get(column.name) for seed in own}
            apart = [value - other for seed, value in own.items() if (other := first[seed]) is not None]
            mean, spread = _over(list(own.values()))
            made[name][column.name] = Summary(mean, spread, len(own), *(_over(apart) if apart else (math.nan,) * 2))
    return made


def _over(values: Sequence[float]) -> tuple[float, float]:
    return math.fsum(values) / len(values), max(values) - min(values)


def table(results: Sequence[Result], columns: Sequence[Column]) -> str:
    """CSV: a row a run, empty where there is no figure."""
    sink = io.StringIO()
    write = csv.writer(sink, lineterminator="\n").writerow
    write(["family", "seed", *(column.name for column in columns)])
    for one in results:
        write([one.name, one.seed, *(repr(one.figures[c.name]) if c.name in one.figures else "" for c in columns)])
    return sink.getvalue()


def summary_table(made: Mapping[str, Mapping[str, Summary]]) -> str:
    """CSV: a row a family and figure of quality."""
    sink = io.StringIO()
    write = csv.writer(sink, lineterminator="\n").writerow
    write(["family", "figure", "mean", "spread", "seeds", "difference", "difference_spread"])
    for name, figures in made.items():
        for column in COLUMNS:
            if column.name in figures:
                s = figures[column.name]
                numbers = ["" if math.isnan(v) else repr(v) for v in (s.difference, s.difference_spread)]
                write([name, column.name, repr(s.mean), repr(s.spread), s.seeds, *numbers])
    return sink.getvalue()
