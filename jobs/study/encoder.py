"""What the style encoder has learnt, beside controls, on crops of regions that it was not trained on.

E learns from the training crops of the demo photographs (the encoder stage alone), as they are or as standardised grey
(`--trained-on grey`: brightness and contrast of each crop made equal); all is then measured on crops of their
photographs' other regions, as they are and as standardised grey.
Share: of the 5 closest crops, those of the anchor's own photograph. Controls: an untrained E (the same seeds), mean and
deviation of R, G and B, and the style descriptors themselves, of the given and of random weights.

Triplet accuracy: anchor, one of its 5 closest and one of its 13 furthest among the measured crops. Rank correlation
(Spearman): of squared code distance and style distance over all pairs.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

import models.step
from jobs import describe, neighbours, shard
from jobs.study.harness.crops import SIZE, colour_statistics, held_out, standardised_grey
from jobs.study.harness.folders import kept_in
from models.group import Group
from models.step import StEP
from pipeline.data import decode, tensors
from pipeline.data.sources.demo import Demo
from pipeline.data.tensors import to_tensor
from pipeline.evaluation import metrics
from pipeline.neighbours.options import Exact
from pipeline.runs import checkpoint
from pipeline.style.descriptors import DescribeOptions, Describer
from pipeline.style.weights import of_recipe
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit

NEAR, FAR = 5, 13


@dataclass(frozen=True)
class Config:
    """What E is trained on and for how long."""

    weights: str = "torchvision"
    """VGG-19 checkpoint of the triplets: path, URL, `torchvision`, or `random`."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the encoder's weights and order."""
    images: int = 9_000
    """Anchors seen."""
    trained_on: Literal["colour", "grey"] = "colour"
    """How the training crops look."""
    far_cap: float = 0.0
    """Share of the training crops' furthest lists that one crop may be in; 0: any, as the paper's."""
    width: int = 16
    """Encoder width (paper: 64)."""
    margin: float = 0.1
    """alpha (paper: 0.1)."""
    crops: int = 120
    """Training crops per photograph."""
    measured: int = 60
    """Crops per photograph to measure on, from its other region."""
    folder: str = ""
    """Where runs are kept (finished ones are not trained again); none: a temporary folder, removed at the end."""


def run(config: Config) -> dict[str, Any]:
    """Figures by name: mean over the seeds, and `_spread` (largest - smallest)."""
    with kept_in(config.folder) as folder:
        return _run(config, Path(folder))


def _run(config: Config, folder: Path) -> dict[str, Any]:
    made = _triplets(config, folder)
    colour, labels = held_out(config.measured)
    looks = {"colour": colour, "grey": standardised_grey(colour)}
    figures: dict[str, Any] = {"weights": config.weights.rsplit("/", 1)[-1], "images": config.images}
    figures |= {"seeds": len(config.seeds), "trained_on": config.trained_on, "far_cap": config.far_cap}
    style = {look: describe_all(images, config.weights) for look, images in looks.items()}
    random = {look: describe_all(images, "random") for look, images in looks.items()}
    for look, images in looks.items():
        figures[f"{look}/chance"] = metrics.own_label_share(style[look], labels, NEAR)[1]
        controls = {"colour_statistics": colour_statistics(images), "grams": style[look], "random_grams": random[look]}
        for name, vectors in controls.items():
            figures[f"{look}/{name}"] = metrics.own_label_share(vectors, labels, NEAR)[0]
    found: dict[str, list[float]] = {}
    for seed in config.seeds:
        for name, family in (("untrained", _untrained(config, seed)), ("trained", _trained(config, seed, made))):
            for look, images in looks.items():
                measured = measure(family.codes(images), labels, style[look], seed)
                for figure, value in measured.items():
                    found.setdefault(f"{look}/{name}_{figure}", []).append(value)
        print(f"seed {seed}: " + ", ".join(f"{n} {v[-1]:.3f}" for n, v in found.items()), flush=True)
    for name, values in found.items():
        figures[name] = statistics.mean(values)
        figures[f"{name}_spread"] = max(values) - min(values)
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}


def measure(codes: Tensor | None, labels: list[str], style: Tensor, seed: int) -> dict[str, float]:
    """Share of own photograph, triplet accuracy and rank correlation of codes `N D` against style vectors `N S`."""
    assert codes is not None
    apart = torch.cdist(style.double(), style.double()).square()
    n = len(apart)
    others = apart + torch.diag(torch.full((n,), float("inf"), dtype=torch.float64))
    near, far = others.argsort(1)[:, :NEAR], apart.argsort(1, descending=True)[:, :FAR]
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(n)
    positive = codes[near[rows, torch.randint(NEAR, (n,), generator=generator)]]
    negative = codes[far[rows, torch.randint(FAR, (n,), generator=generator)]]
    pairs = torch.triu_indices(n, n, 1)
    code_apart = torch.cdist(codes.double(), codes.double()).square()
    return {
        "own_share": metrics.own_label_share(codes, labels, NEAR)[0],
        "triplet_accuracy": metrics.triplet_accuracy(codes, positive, negative),
        "rank_correlation": metrics.rank_correlation(code_apart[pairs[0], pairs[1]], apart[pairs[0], pairs[1]]),
    }


def describe_all(images: Tensor, weights: str) -> Tensor:
    """Style vectors `N D` by the demo's layers."""
    recipe = models.step.PRESETS["demo"]
    net, _ = of_recipe(weights, recipe)
    describer = Describer(net)
    return torch.cat([describer(part) for part in torch.split(images, 16)])


def _recipe(config: Config, seed: int) -> models.step.Config:
    return replace(
        models.step.PRESETS["demo"],
        seed=seed,
        size=SIZE,
        encoder_width=config.width,
        margin=config.margin,
        encoder_images=config.images,
        generator_images=0,
        finetune_images=0,
        mapper_epochs=0,
    )


def _triplets(config: Config, folder: Path) -> dict[str, str]:
    """Data set, descriptors and neighbours of the training crops."""
    made = {name: str(folder / name) for name in ("data", "descriptors", "neighbours")}
    if config.far_cap:
        made["neighbours"] += f"-{config.far_cap}"
    recipe = _recipe(config, 0)
    source = "demo"
    if config.trained_on == "grey":
        source = str(folder / "grey")
        _write_grey(config, folder / "grey" / "train")
    shard.run(shard.Config(source=source, output=made["data"], size=SIZE, crops=config.crops))
    options = DescribeOptions(net=recipe.perceptual_net, layers=recipe.perceptual_layers)
    describe.run(
        describe.Config(data=made["data"], output=made["descriptors"], describe=options, weights=config.weights)
    )
    neighbours.run(
        neighbours.Config(
            data=made["data"],
            descriptors=made["descriptors"],
            output=made["neighbours"],
            search=Exact(near=NEAR, far=FAR, far_cap=config.far_cap),
        )
    )
    return made


def _write_grey(config: Config, folder: Path) -> None:
    """The training crops as PNG files of standardised grey, as pairs: the data set of a run has inputs."""
    source = Demo(size=SIZE, crops=config.crops)
    for side in ("input", "target"):
        (folder / side).mkdir(parents=True, exist_ok=True)
    for number, entry in enumerate(source.samples()["train"]):
        image = to_tensor([decode.pixels(source.read(entry.files["target"], "target"))])
        data = decode.to_png(tensors.to_uint8(standardised_grey(image)[0]))
        for side in ("input", "target"):
            (folder / side / f"{number:05d}.png").write_bytes(data)


def _untrained(config: Config, seed: int) -> StEP:
    return models.step.build(_recipe(config, seed), Group())


def _trained(config: Config, seed: int, made: dict[str, str]) -> Any:
    cap = f"-cap{config.far_cap}" if config.far_cap else ""
    output = str(Path(made["data"]).parent / f"encoder-{config.width}-{config.images}-{config.margin}{cap}-{seed}")
    job = Job(
        "step",
        _recipe(config, seed),
        made["data"],
        output,
        artifacts={"neighbours": made["neighbours"]},
        weights=config.weights,
        run=Run(workers=0),
    )
    fit(job)
    return checkpoint.restore(output)[0]
