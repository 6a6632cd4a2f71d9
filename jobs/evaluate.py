"""How good, how different, how faithful: a run's figures on held-out samples.

    python -m jobs.evaluate --run RUN --data DATASET --output DIR --weights vgg19.pth

Reconstruction at the end of each stage that trains on samples; diversity, precision and recall of each sampler. LPIPS
needs its own weights (`--lpips`); the perceptual distance goes by a name that says which network it used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

import models
from jobs import command
from jobs.sample import seeded
from models.common.lpips import BACKBONES, Version, open_lpips
from models.common.vgg import VGG
from models.family import Family, PerceptualRecipe
from pipeline import checkpoint, metrics, storage
from pipeline.batches import Images, picks, whole_batches
from pipeline.shards import DataSet, require_inputs
from pipeline.weights import Weights, load_weights, of_recipe

if TYPE_CHECKING:
    from pipeline.tracking import Tracker

BATCH = 8
VERSIONS: tuple[Version, ...] = ("0.0", "0.1")


@dataclass(frozen=True)
class Config:
    """What to measure, on what."""

    run: str
    """Folder of a training run."""
    data: str
    """Data set folder."""
    output: str
    """Folder of evaluation.json."""
    weights: str = "torchvision"
    """VGG checkpoint of the perceptual distance and of the features: path, URL, `torchvision`, or `random`."""
    net: Literal["", "vgg16", "vgg19"] = ""
    """Its network; none: the recipe's."""
    layers: tuple[str, ...] = ()
    """Its layers, where --net is given."""
    split: str = "val"
    limit: int = 200
    """Held-out samples measured, from the first."""
    inputs: int = 20
    """Inputs of the diversity figure (BicycleGAN's protocol: 100)."""
    samples: int = 10
    """Samples of each (BicycleGAN's protocol: 20), compared with their neighbours in the order drawn."""
    samplers: tuple[str, ...] = ()
    """Ways to draw codes; none: all that the family has."""
    swaps: int = 24
    """Samples among which every code is tried on every input."""
    lpips: tuple[Literal["alex", "vgg", "squeeze"], ...] = ()
    """LPIPS networks to measure with, versions 0.0 and 0.1."""
    lpips_weights: str = ""
    """Folder of LPIPS' own weights: torchvision's backbone files, and the linear layers as v0.1/alex.pth."""
    seed: int = 0


Figures = dict[str, float | str]


def run(config: Config, tracker: Tracker | None = None) -> Figures:
    """Measure and write evaluation.json; returns the figures.

    Raises:
        ValueError: an unfinished run, no held-out samples, or weights that are not there.
    """
    folder = storage.absolute(config.run, "--run")
    output = storage.absolute(config.output, "--output")
    images = Images(DataSet(storage.absolute(config.data, "--data"), config.split))
    family, facts = checkpoint.restore(folder)
    require_inputs(images.data, models.load(facts["family"]).input_kind(family.recipe))
    vgg, origin = _network(config, family)
    distances: dict[str, metrics.Distance] = {
        metrics.perceptual_name(vgg, origin.identity): partial(metrics.perceptual_distance, vgg)
    }
    for net in config.lpips:
        for version in VERSIONS:
            linear = f"{config.lpips_weights}/v{version}/{net}.pth"
            measure = open_lpips(net, version, f"{config.lpips_weights}/{BACKBONES[net][0]}", linear)
            distances[measure.name] = measure
    pairs = _pairs(images, config.limit, family.recipe.frame)
    figures: Figures = {"images": float(len(pairs["target"]))}
    with torch.no_grad():
        for stage in family.stages:
            if not {"input", "target"} <= set(next(iter(family.streams(stage.name).values())).fields):
                continue  # a stage that makes no pictures
            there, _ = checkpoint.restore(folder, stage.name)
            rebuilt = reconstruction(there, pairs, distances, config.swaps)
            figures.update({f"{stage.name}/{name}": value for name, value in rebuilt.items()})
        for sampler in config.samplers or family.samplers:
            found = sampling(family, pairs, distances, vgg, sampler, config)
            figures.update({f"{sampler}/{name}": value for name, value in found.items()})
    storage.publish_json(
        storage.join(output, "evaluation.json"),
        {"figures": figures, "split": config.split, "weights": str(origin), "inputs": facts["inputs"]},
    )
    if tracker:
        tracker.scalars({k: v for k, v in figures.items() if isinstance(v, float)}, 0)
        tracker.file(storage.join(output, "evaluation.json"))
    return figures


def _network(config: Config, family: Family) -> tuple[VGG, Weights]:
    recipe = family.recipe
    if isinstance(recipe, PerceptualRecipe) and recipe.perceptual_layers and not config.net:
        return of_recipe(config.weights, recipe)
    net = config.net or "vgg19"
    return load_weights(config.weights, net, config.layers or ("relu1_2", "relu2_2", "relu3_1"))


def reconstruction(
    family: Family, pairs: dict[str, Tensor], distances: dict[str, metrics.Distance], swaps: int
) -> dict[str, float]:
    """PSNR (dB), SSIM and distances of the output with the target's own code; how often that code is the best one for
    its target (chance 0.5); how often E finds the code that a picture was made with, among ten (chance 0.1)."""
    rebuilt = [family.reconstruct(batch) for batch in _batches(pairs)]
    if any(x is None for x in rebuilt):
        return {}
    made, target = torch.cat([x for x in rebuilt if x is not None]), pairs["target"]
    found = {"psnr": metrics.psnr(made, target), "ssim": metrics.ssim(made, target)}
    for name, distance in distances.items():
        found[name] = _mean(distance, made, target)
    codes = family.codes(target)
    if codes is None:
        return found
    chosen = picks(len(target), swaps)
    n = len(chosen)
    x, y, z = pairs["input"][chosen], target[chosen], codes[chosen]
    apart = torch.zeros(n, n)
    recovered = torch.zeros(n, n, z.shape[1])
    for j in range(n):
        out = family.generate({"input": x}, z[j : j + 1].expand(n, -1))
        assert out is not None
        apart[:, j] = (out - y).square().mean((1, 2, 3))
        seen = family.codes(out)
        assert seen is not None
        recovered[:, j] = seen
    found["own_code_beats_others"] = metrics.own_code_share(apart)
    ten = [[(i + k * max(1, n // 10)) % n for k in range(min(10, n))] for i in range(n)]
    rows = torch.arange(n)[:, None]
    found["code_found_among_ten"] = metrics.code_recovery(z[torch.tensor(ten)], recovered[rows, torch.tensor(ten)])
    return found


def sampling(
    family: Family,
    pairs: dict[str, Tensor],
    distances: dict[str, metrics.Distance],
    vgg: VGG,
    sampler: str,
    config: Config,
) -> Figures:
    """Diversity over `config.inputs` inputs; precision and recall of one sample per input among the true images."""
    found: Figures = {}
    chosen = picks(len(pairs["input"]), config.inputs)
    drawn = [
        family.sample(
            {"input": pairs["input"][i : i + 1]}, config.samples, seeded(config.seed, sampler, str(i)), sampler
        )[0]
        for i in chosen
    ]
    for name, distance in distances.items():
        measured = metrics.diversity(iter(drawn), distance)
        found[f"diversity_{name}"] = measured.mean
        found["diversity_protocol"] = f"{measured.inputs} inputs x {measured.samples} samples, {measured.pairs} pairs"
    fake = torch.cat(
        [
            family.sample(batch, 1, seeded(config.seed, sampler, "one", str(i)), sampler)[:, 0]
            for i, batch in enumerate(_batches(pairs))
        ]
    )
    precision, recall = metrics.precision_recall(_features(vgg, pairs["target"]), _features(vgg, fake))
    return {**found, "precision_vgg_k3": precision, "recall_vgg_k3": recall}


def _features(vgg: VGG, images: Tensor) -> Tensor:
    """`N C`: mean activations of the deepest layer."""
    return torch.cat([vgg(part)[vgg.layers[-1]].mean((2, 3)) for part in images.chunk(-(-len(images) // BATCH))])


def _mean(distance: metrics.Distance, a: Tensor, b: Tensor) -> float:
    parts = [distance(x, y) for x, y in zip(a.chunk(-(-len(a) // BATCH)), b.chunk(-(-len(b) // BATCH)), strict=True)]
    return float(torch.cat(parts).double().mean())


def _batches(pairs: dict[str, Tensor]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(pairs["target"]), BATCH):
        yield {name: value[start : start + BATCH] for name, value in pairs.items()}


def _pairs(images: Images, limit: int, frame: tuple[int, int]) -> dict[str, Tensor]:
    if not {"input", "target"} <= set(images.data.fields):
        raise ValueError(f"--data {images.data.root}: needs input and target, has {', '.join(images.data.fields)}")
    batches = list(islice(whole_batches(images, BATCH, frame, 0, 1), -(-limit // BATCH)))
    return {name: torch.cat([b[name] for b in batches])[:limit] for name in ("input", "target")}


if __name__ == "__main__":
    command.main(Config, run, __doc__)
