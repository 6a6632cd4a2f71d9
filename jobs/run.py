"""The main job, all of it: shard, describe and neighbours where the family needs them, train, sample, evaluate.

    python -m jobs.run step demo --output runs/demo
    python -m jobs.run step facades --source FOLDER --input-side right --weights vgg19.pth --output DIR

The first two words are the family and its preset. Each part is skipped when its artifact is there with the same
request; the same command goes on where an interrupted one ended. Each part is a run of its own in the tracker, below
one parent run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import models
from jobs import command, describe, evaluate, neighbours, sample, shard, train
from pipeline.artifacts import storage
from pipeline.neighbours.options import Exact
from pipeline.style.descriptors import DescribeOptions
from pipeline.tracking.journal import Tracker
from pipeline.training.job import Run
from pipeline.training.loop import fit


@dataclass(frozen=True, kw_only=True)
class Config:
    """What goes through the whole job; the recipe's fields are options too."""

    output: str
    """Folder for everything: data, descriptors, neighbours, train, samples, evaluation."""
    source: str = "demo"
    """`demo` (photographs that come with the installation), or a folder of images; see jobs.shard."""
    layout: Literal["auto", "pairs", "sides", "images"] = "auto"
    input_side: Literal["", "left", "right"] = ""
    """Which half of side-by-side images is the input."""
    palette: str = ""
    """Inputs are label maps painted in colours; see jobs.shard."""
    resize: int = 0
    """Shortest side, pixels; 0 keeps the source's own bytes."""
    crops: int = 60
    """demo: training crops per photograph."""
    val_share: float = 0.0
    """Share of the samples held out, for sources without splits of their own."""
    weights: str = "torchvision"
    """VGG checkpoint for descriptors and perceptual loss: path, URL, `torchvision`, or `random`."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the descriptors."""
    near: int = 5
    """k_c: closest images a positive is drawn from."""
    far: int = 13
    """k_f: furthest images a negative is drawn from."""
    workers: int = 2
    """Ray actors of shard, describe and neighbours."""
    count: int = 6
    """Samples per input on the sheets."""
    tracking: str | None = None
    """MLflow tracking URI; none: a database in the output folder. `off`: JSON lines only."""
    run: Run = field(default_factory=Run)


def run(family: str, config: Any) -> dict[str, Any]:
    """All parts in order; returns the evaluation's figures."""
    root = storage.absolute(config.output, "--output")

    def folder(name: str) -> str:
        return storage.join(root, name)

    uri = tracking_uri(config.tracking, root)
    recipe = config.recipe
    tags = {"family": family, "weights": config.weights.rsplit("/", 1)[-1]}
    with Tracker(root, uri, job="run", name=f"{family} {root.rsplit('/', 1)[-1]}", tags=tags) as parent:

        def part(name: str, job: Callable[[Any, Tracker], Any], options: Any) -> Any:
            with Tracker(folder(name), uri, job=name, name=name, parent=parent.as_parent, tags=tags) as tracker:
                tracker.parameters(asdict(options))
                return job(options, tracker)

        data, styles, lists, trained = (folder(name) for name in ("data", "descriptors", "neighbours", "train"))
        part("data", shard.run, _shard(config, recipe, data))
        if "neighbours" in models.load(family).NEEDS:
            part("descriptors", describe.run, _describe(config, recipe, data, styles))
            search = Exact(near=config.near, far=config.far, workers=config.workers)
            near = neighbours.Config(descriptors=styles, data=data, output=lists, search=search)
            part("neighbours", neighbours.run, near)
        else:
            lists = ""
        fit(train.job(family, _train(config, root, uri, lists), parent.as_parent))
        sheets = sample.Config(run=trained, data=data, output=folder("samples"), count=config.count)
        part("samples", sample.run, sheets)
        measured = evaluate.Config(run=trained, data=data, output=folder("evaluation"), weights=config.weights)
        figures: dict[str, Any] = part("evaluation", evaluate.run, measured)
        parent.scalars({k: v for k, v in figures.items() if isinstance(v, float)}, 0)
    return figures


def tracking_uri(given: str | None, root: str) -> str | None:
    """MLflow's SQLite file in the output folder, unless told otherwise; an object store cannot hold a database."""
    if given == "off" or (given is None and storage.is_remote(root)):
        return None
    return given or f"sqlite:///{root}/mlflow.db"


def _shard(config: Any, recipe: Any, output: str) -> shard.Config:
    if config.source == "demo":
        made = {"size": recipe.size, "crops": config.crops, "seed": recipe.seed}
    else:
        made = {"layout": config.layout, "input_side": config.input_side, "resize": config.resize}
        made |= {"val_share": config.val_share, "palette": config.palette}
    return shard.Config(source=config.source, output=output, workers=config.workers, **made)


def _describe(config: Any, recipe: Any, data: str, output: str) -> describe.Config:
    options = DescribeOptions(
        net=recipe.perceptual_net,
        layers=recipe.perceptual_layers,
        preprocessing=recipe.perceptual_preprocessing,
        pooling=recipe.perceptual_pooling,
        precision=config.precision,
    )
    return describe.Config(data=data, output=output, weights=config.weights, describe=options, workers=config.workers)


def _train(config: Any, root: str, uri: str | None, lists: str) -> Any:
    return train.command_line(train.Config, config.recipe)(
        data=storage.join(root, "data"),
        output=storage.join(root, "train"),
        neighbours=lists,
        weights=config.weights,
        tracking=uri,
        run=config.run,
        recipe=config.recipe,
    )


if __name__ == "__main__":
    family, recipe, rest = train.leading_words(__doc__)
    command.main(train.command_line(Config, recipe), lambda config: run(family, config), __doc__, rest)
