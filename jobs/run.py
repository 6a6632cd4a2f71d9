"""The whole job in one folder: shard, describe and neighbours if the family needs them, train, sample, evaluate.

    python -m jobs.run step demo --output runs/demo
    python -m jobs.run step small --source FOLDER --input-side right --weights vgg19.pth --output DIR

The first two words are the family and its preset. A part is skipped if its result is there, made by the same request.
After an interruption the same command resumes. In the tracker each part is a run of its own, below one parent run.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import models
from jobs import command, evaluate, sample, shard, train
from jobs.parts import MAKERS, Parts, needs_features, of_source, with_features
from models.abilities import Answers, DrawsSamples
from models.family import FieldSpec
from pipeline.artifacts import storage
from pipeline.data import sources
from pipeline.data.shards import match_fields
from pipeline.evaluation.setting import Options, judging
from pipeline.runs.checkpoint import recipe_json
from pipeline.runs.sampler import open_run
from pipeline.style.features import FeatureOptions, network
from pipeline.tracking.journal import Tracker
from pipeline.training.job import Run
from pipeline.training.loop import fit


@dataclass(frozen=True, kw_only=True)
class Config:
    """What goes through the whole job; the recipe's fields are options too."""

    output: str
    """Folder for everything: data, descriptors, neighbours, train, samples, evaluation."""
    source: str = "demo"
    """`demo` (photographs that come with the installation), a folder of images, or KIND:PATH; see jobs.shard."""
    option: dict[str, str] = field(default_factory=dict)
    """NAME VALUE: options of a source of another kind."""
    layout: Literal["auto", "pairs", "sides", "images", "classes"] = "auto"
    """What the folder holds; see jobs.shard."""
    input_side: Literal["", "left", "right"] = ""
    """Which half of side-by-side images is the input."""
    palette: str = ""
    """Inputs are label maps painted in colours; see jobs.shard."""
    connected_components: bool = False
    """Each connected component of one class of the label maps is one instance; see jobs.shard."""
    resize: int = 0
    """Shortest side of the stored images, pixels; 0 keeps the source's own bytes."""
    crops: int = 80
    """demo: training crops per photograph."""
    max_bad_share: float = 0.01
    """Fail when more of the source's samples are bad."""
    val_share: float = 0.0
    """Share of the samples moved to split val, for sources without splits of their own."""
    weights: str = "torchvision"
    """VGG checkpoint for descriptors, features and perceptual loss: path, URL, `torchvision`, or `random`."""
    grid_features: FeatureOptions = field(default_factory=FeatureOptions)
    """For families that read features of pictures; see jobs.features."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the descriptors."""
    near: int = 5
    """Closest images, from which a positive is drawn (StEP's k_c)."""
    far: int = 13
    """Furthest images, from which a negative is drawn (StEP's k_f)."""
    workers: int = 2
    """Ray actors of shard, describe and neighbours."""
    count: int = 6
    """Samples of each input on the sheets."""
    tracking: str | None = None
    """MLflow tracking URI; none: a database in the output folder. `off`: JSON lines only."""
    run: Run = field(default_factory=Run)
    evaluation: Options = field(default_factory=Options)
    """How the samples are measured; the weights are those of --weights."""

    def __post_init__(self) -> None:
        if self.evaluation.weights != Options.weights:
            raise ValueError(f"--evaluation.weights {self.evaluation.weights}: give --weights, which all parts use")


def run(family: str, config: Any) -> dict[str, Any]:
    """All parts in order; returns the evaluation's figures.

    Raises:
        ValueError: the family's recipe, its weights or an artifact that it needs cannot be had.
    """
    root = storage.output(config.output)
    uri = tracking_uri(config.tracking, root)
    module, recipe = models.load(family), config.recipe
    module.check(recipe, None)
    needed = [name for name, spec in module.artifacts(recipe).items() if spec.needed_by]
    if missing := [name for name in needed if name not in MAKERS]:
        raise ValueError(f"{family} needs --{missing[0]}, which jobs.run does not make: make it and use jobs.train")
    wanted = module.fields(recipe)
    if (target := wanted.get("target")) and target.kind == "image":
        judging(recipe, replace(config.evaluation, weights=config.weights))  # refused before the work, not after it
    made = _shard(config, recipe, storage.join(root, "data"))
    reads_features = _refuse_at_once(config, made, needed, wanted)
    tags = {"family": family, "weights": config.weights.rsplit("/", 1)[-1]}
    with Tracker(root, uri, job="run", name=f"{family} {root.rsplit('/', 1)[-1]}", tags=tags) as parent:
        parent.parameters({**recipe_json(recipe), "source": config.source, "vgg_weights": config.weights})
        parts = Parts(config, root, uri, parent, tags)
        data, trained = parts.folder("features" if reads_features else "data"), parts.folder("train")
        parent.description(_description(family, config, root, data))
        described = parts.do("data", shard.run, made)
        parent.dataset(config.source.rstrip("/").rsplit("/", 1)[-1], described["fingerprint"], made.output)
        if reads_features:
            with_features(parts)
        artifacts = {name: MAKERS[name](parts) for name in needed}
        fit(train.job(family, _train(config, root, data, uri, artifacts), parent.as_parent))
        opened = open_run(trained)
        if isinstance(opened.family, DrawsSamples | Answers):
            split = "test" if config.source == "demo" else "val"  # the demo's photographs that training never saw
            folder = parts.folder("samples")
            sheets = sample.Config(run=trained, data=data, output=folder, count=config.count, split=split)
            for path in parts.do("samples", sample.run, sheets):
                parent.file(path)
        options = {**vars(config.evaluation), "weights": config.weights}
        measured = evaluate.Config(run=trained, data=data, output=parts.folder("evaluation"), **options)
        figures: dict[str, Any] = parts.do("evaluation", evaluate.run, measured)
        parent.scalars({k: v for k, v in figures.items() if isinstance(v, float)}, 0)
        if parent.page:
            print(f"In a browser: {parent.page}")
    return figures


def _description(family: str, config: Any, root: str, data: str) -> str:
    """Of the parent run, in Markdown; the command stands first because MLflow folds what is long."""
    trained, more = (storage.join(root, name) for name in ("train", "more"))
    weights = config.weights.rsplit("/", 1)[-1]
    return f"""**{family}** on `{config.source}`, VGG weights `{weights}`; sheets under *Artifacts*.

    {command.given()}

made this, goes on after an interruption, and trains longer where lengths are raised. More samples; a check of all:

    python -m jobs.sample --run {trained} --data {data} --output {more} --count 12
    python -m jobs.verify {root}
"""


def tracking_uri(given: str | None, root: str) -> str | None:
    """MLflow's SQLite file in the output folder, unless told otherwise; an object store cannot hold a database."""
    if given == "off" or (given is None and storage.is_remote(root)):
        return None
    return given or f"sqlite:///{root}/mlflow.db"


def _refuse_at_once(config: Any, made: shard.Config, needed: list[str], wanted: dict[str, FieldSpec]) -> bool:
    """What the listing of the source shows already, before hours of work. Returns whether features are to be computed.

    Raises:
        ValueError: a field that the family reads is missing, there are no held-out samples, or fewer training images
            than neighbours wanted.
    """
    kind, place = sources.parse(made.source)
    source = sources.open_source(shard.source_options(made, kind), place)
    hint = ""
    if kind == "folder" and "instances" in wanted.keys() - source.fields.keys() and "input" in source.fields:
        hint = " (give --connected-components, or add a folder instances/)"
    elif kind == "folder" and not made.input_side:
        hint = " (images side by side: give --input-side left or right)"
    match_fields(f"--source {made.source}{hint}", source.fields, of_source(wanted, source.fields))
    if featured := needs_features(wanted, source.fields):
        network(config.weights, config.grid_features)
    listed = source.samples()
    if not listed.get("val"):
        raise ValueError(f"--source {made.source}: has no held-out samples (a folder val/): give --val-share 0.1")
    most = max(config.near, config.far)
    if "neighbours" in needed and len(listed["train"]) <= most:
        raise ValueError(
            f"--near {config.near} --far {config.far}: the source has {len(listed['train'])} images to train on"
        )
    return featured


def _shard(config: Any, recipe: Any, output: str) -> shard.Config:
    made: dict[str, Any] = {"option": config.option, "max_bad_share": config.max_bad_share}
    if config.source == "demo":
        made |= {"size": recipe.size, "crops": config.crops, "seed": recipe.seed, "held_out": "photographs"}
    else:
        made |= {"layout": config.layout, "input_side": config.input_side, "resize": config.resize}
        made |= {"val_share": config.val_share, "palette": config.palette}
        made |= {"connected_components": config.connected_components}
    return shard.Config(source=config.source, output=output, workers=config.workers, **made)


def _train(config: Any, root: str, data: str, uri: str | None, artifacts: dict[str, str]) -> Any:
    given = {"data": data, "output": storage.join(root, "train"), "weights": config.weights, "tracking": uri}
    return train.command_line(train.Config, config.recipe)(**given, run=config.run, recipe=config.recipe, **artifacts)


if __name__ == "__main__":
    family, recipe, rest = train.leading_words(__doc__)
    command.main(train.command_line(Config, recipe), lambda config: run(family, config), __doc__, rest)
