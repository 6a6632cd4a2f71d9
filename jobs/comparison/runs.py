"""The runs of jobs.compare: how long each one is, what it needs, training and measuring one."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import models
from jobs import evaluate, shard
from jobs.comparison.rows import Entry
from jobs.parts import MAKERS, Parts
from models.family import PerceptualRecipe
from pipeline.artifacts import pool, storage
from pipeline.data.shards import DataSet, require_fields
from pipeline.evaluation import cost, protocol, segmentation
from pipeline.evaluation.setting import Options, Setting, judging
from pipeline.runs import checkpoint
from pipeline.runs.sampler import open_run
from pipeline.style.weights import of_recipe
from pipeline.tracking.journal import Tracker
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit


@dataclass(frozen=True)
class Planned:
    """One run that is to be trained and measured."""

    entry: Entry
    """Its recipe has the seed."""
    seed: int
    data: str
    artifacts: Mapping[str, str]
    folder: str

    @property
    def finished(self) -> bool:
        """Trained to the end of this recipe, not of a shorter one."""
        path = storage.join(self.folder, "train", "weights.json")
        return storage.exists(path) and storage.read_json(path)["recipe"] == checkpoint.recipe_json(self.entry.recipe)

    @property
    def failure(self) -> str:
        """Why it could not be trained to its end; empty: it was, or nobody tried."""
        path = storage.join(self.folder, "failure.json")
        return "" if self.finished or not storage.exists(path) else str(storage.read_json(path)["reason"])

    def job(self, weights: str, threads: int, **more: Any) -> Job:
        run = Run(workers=0, threads=threads, checkpoint_every=200, evaluate_every=500, evaluate_images=8)
        given = {"artifacts": dict(self.artifacts), "weights": weights, "run": run, **more}
        return Job(self.entry.family, self.entry.recipe, self.data, storage.join(self.folder, "train"), **given)


def data_sets(config: Any, root: str, labelled: bool) -> tuple[str, str]:
    """Folders of the data set with pictures as inputs, and of the one with label maps (empty: there is none)."""
    if config.data:
        labels = storage.absolute(config.labels, "--labels") if config.labels else ""
        if labelled and not labels:
            raise ValueError("--labels: families that read label maps need a data set with them")
        return storage.absolute(config.data, "--data"), labels
    if config.labels or (labelled and not config.palette):
        raise ValueError("--palette: with --source it says how label maps are painted; --labels goes with --data")
    made: dict[str, Any] = {"option": config.option, "input_side": config.input_side, "resize": config.resize}
    made["workers"] = config.workers
    data, labels = storage.join(root, "data"), storage.join(root, "labels") if config.palette else ""
    shard.run(shard.Config(source=config.source, output=data, **made))
    if labels:
        made |= {"palette": config.palette, "connected_components": True}
        shard.run(shard.Config(source=config.source, output=labels, **made))
    return data, labels


def refuse_at_once(
    rows: list[Entry], reads: Mapping[str, str], data: str, labels: str, split: str, options: Options
) -> None:
    """What does not fit, before hours of work.

    Args:
        reads: row -> the data set that it reads: `data` or `labels`.

    Raises:
        ValueError: a field that a family reads is missing, there is no held-out split, no such weights, other pictures
            in the data set with label maps, or pictures that are not square and cut in different ways.
    """
    recipe = rows[0].recipe
    judging(recipe, replace(options, net=options.net or "vgg19"))
    for row in rows:
        require_fields(DataSet(reads[row.name], split), models.load(row.family).fields(row.recipe))
        if isinstance(row.recipe, PerceptualRecipe) and row.recipe.perceptual_layers:
            of_recipe(options.weights, row.recipe)
    pictures = [DataSet(data, part) for part in ("train", split)]
    for own in pictures:
        if labels in reads.values() and DataSet(labels, own.split).keys != own.keys:
            raise ValueError(f"--labels: not of the same pictures as --data, in the same order (split {own.split})")
    if labels and options.segmenter_steps:
        held_out = pictures[-1]
        protocol.labels_of(DataSet(labels, split), held_out, min(options.limit, len(held_out)), recipe.frame)
    fits = {row.recipe.fit: row.name for row in rows}
    if len(fits) > 1 and not all(own.square for own in pictures):
        told = ", ".join(f"{name} by {fit}" for fit, name in fits.items())
        raise ValueError(f"--families: pictures that are not square are cut in different ways, {told}; add fit=stretch")


def artifacts_of(row: Entry, data: str, config: Any, root: str, uri: str | None, parent: Tracker) -> dict[str, str]:
    """Make the artifacts that a row's stages need, as jobs.run does.

    Raises:
        ValueError: one that jobs.run does not make either.
    """
    needed = [n for n, spec in models.load(row.family).artifacts(row.recipe).items() if spec.needed_by]
    if missing := [name for name in needed if name not in MAKERS]:
        raise ValueError(f"--families {row.name}: {row.family} needs {missing[0]}, which is not made here")
    made = _Making(row.recipe, config.weights, config.near, config.far, config.workers)
    parts = Parts(made, storage.join(root, row.name), uri, parent, {"family": row.family}, {"data": data})
    return {name: MAKERS[name](parts) for name in needed}


@dataclass(frozen=True)
class _Making:
    """What the makers of artifacts ask of a whole job's options."""

    recipe: Any
    weights: str
    near: int
    far: int
    workers: int
    precision: str = "fp32"


def evaluator(config: Any, labels: str, root: str) -> Options:
    """The options of all evaluations; the segmenter is trained here, once."""
    given = {f.name: getattr(config, f.name) for f in fields(Options)}
    given |= {"labels": labels, "net": config.net or "vgg19"}
    if labels and config.segmenter_steps and not config.segmenter:
        given["segmenter"] = storage.join(root, "segmenter.pt")
        with pool.limited(config.threads):
            frame = (config.size, config.size)
            segmentation.kept(given["segmenter"], DataSet(labels), frame, config.segmenter_steps, config.seed)
    return Options(**given)


def train_and_measure(
    options: Options, split: str, uri: str | None, parent: str, threads: int
) -> Callable[[Planned], None]:
    """For `pool.each`: trains and measures one run. What is there already is kept. A loss that became NaN ends the run
    alone: the comparison goes on, and the page gives the reason."""

    def work(plan: Planned) -> None:
        name = f"{plan.entry.name} seed {plan.seed}"
        try:
            fit(plan.job(options.weights, threads, tracking=uri, parent=parent, name=name))
        except FloatingPointError as error:
            storage.publish_json(storage.join(plan.folder, "failure.json"), {"reason": f"training failed: {error}"})
            return
        trained, folder = storage.join(plan.folder, "train"), storage.join(plan.folder, "evaluation")
        opened, data = open_run(trained), DataSet(plan.data, split)
        chosen = replace(options, samplers=opened.family.samplers[:1])
        given = {f.name: getattr(chosen, f.name) for f in fields(Options)}
        config = evaluate.Config(run=trained, data=plan.data, output=folder, split=split, **given)
        tags = {"family": plan.entry.family, "seed": str(plan.seed)}
        with Tracker(folder, uri, "evaluation", f"{name} evaluation", parent, tags) as tracker:
            with contextlib.redirect_stdout(io.StringIO()):  # its figures stand in the table
                evaluate.run(config, tracker)
            path = storage.join(folder, "cost.json")
            weights = storage.read_json(storage.join(trained, "weights.json"))["sha256"]
            if not storage.exists(path) or storage.read_json(path)["weights"] != weights:
                setting = Setting(opened, trained, data, folder, chosen)
                found: dict[str, Any] = {**asdict(cost.length(opened.family)), **cost.sampling(setting)}
                found["cpu_seconds"] = cost.training_seconds(trained, opened.family)
                tracker.scalars({f"cost/{key}": float(value) for key, value in found.items()}, 0)
                found["stages"] = [stage.name for stage in opened.family.stages]
                found |= {"sampler": (*chosen.samplers, "")[0], "weights": weights}
                storage.publish_json(path, found)

    return work
