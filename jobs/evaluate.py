"""How good, how different, how faithful: a run's figures on held-out samples.

    python -m jobs.evaluate --run RUN --data DATASET --output DIR --weights vgg19.pth --protocol bicyclegan

Reconstruction at the end of each stage that trains on samples; of each sampler diversity, distance to the truth,
precision, recall and a sheet. Where there are label maps: how well a segmenter, trained here, reads them back from the
samples. LPIPS needs its own weights (`--lpips`); the perceptual distance goes by a name that says by which network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import models
from jobs import command
from models.common.lpips import BACKBONES, Version, open_lpips
from models.common.segmenter import Segmenter
from models.common.vgg import VGG
from models.family import Family, PerceptualRecipe
from pipeline.artifacts import storage
from pipeline.data import decode, tensors
from pipeline.data.images import Images
from pipeline.data.order import picks, rows_for_sheets
from pipeline.data.shards import DataSet, require_inputs
from pipeline.evaluation import metrics, protocol, segmentation
from pipeline.evaluation.protocol import Distances, Protocol
from pipeline.runs import checkpoint
from pipeline.runs.checkpoint import note
from pipeline.runs.sampler import seeded
from pipeline.style.weights import Weights, load_weights, of_recipe
from pipeline.tracking import sheets

if TYPE_CHECKING:
    from pipeline.tracking.journal import Tracker

VERSIONS: tuple[Version, ...] = ("0.0", "0.1")
SHEET_SAMPLES, SHEET_COLUMNS = 9, 3


@dataclass(frozen=True)
class Config:
    """What to measure, on what."""

    run: str
    """Folder of a training run."""
    data: str
    """Data set folder."""
    output: str
    """Folder of evaluation.json, the sheets and the segmenter."""
    weights: str = "torchvision"
    """VGG checkpoint of the perceptual distance and of the features: path, URL, `torchvision`, or `random`."""
    net: Literal["", "vgg16", "vgg19"] = ""
    """Its network; none: the recipe's."""
    layers: tuple[str, ...] = ()
    """Its layers, where --net is given."""
    split: str = "val"
    limit: int = 200
    """Held-out samples measured, from the first."""
    protocol: Literal["own", "bicyclegan", "imle"] = "own"
    """Of diversity: `bicyclegan`, 100 inputs x 20 samples, each with the next; `imle`, 100 inputs x 80 samples in 40
    pairs; `own`, --inputs x --samples, each with the next."""
    inputs: int = 0
    """--protocol own: inputs; 0: 20."""
    samples: int = 0
    """--protocol own: samples of each; 0: 10."""
    samplers: tuple[str, ...] = ()
    """Ways to draw codes; none: all that the family has."""
    swaps: int = 24
    """Samples among which every code is tried on every input."""
    sheet: int = 4
    """Inputs on each sampler's sheet; 0: no sheet."""
    labels: str = ""
    """Data set with the label maps of the same photographs; none: the run's own, where its inputs are label maps."""
    segmenter: str = ""
    """segmenter.pt of another evaluation on the same label maps; none: trained on them, or this folder's."""
    segmenter_steps: int = 600
    """Batches of 16 that it is trained with; 0: no segmenter."""
    lpips: tuple[Literal["alex", "vgg", "squeeze"], ...] = ()
    """LPIPS networks to measure with, versions 0.0 and 0.1."""
    lpips_weights: str = ""
    """Folder of LPIPS' own weights: torchvision's backbone files, and the linear layers as v0.1/alex.pth."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.protocol != "own" and (self.inputs or self.samples):
            raise ValueError(f"--protocol {self.protocol} has its own --inputs and --samples: leave them out")
        if self.inputs < 0 or self.samples < 0 or self.samples == 1:
            raise ValueError(f"--inputs {self.inputs}, --samples {self.samples}: give at least 1 and 2, or 0")
        if self.sheet < 0 or self.segmenter_steps < 0 or self.limit < 1:
            given = f"--limit {self.limit}, --sheet {self.sheet}, --segmenter-steps {self.segmenter_steps}"
            raise ValueError(f"{given}: give at least 1, 0, 0")


Figures = dict[str, float | str]


def run(config: Config, tracker: Tracker | None = None) -> Figures:
    """Measure; write evaluation.json and the sheets; returns the figures.

    Raises:
        ValueError: an unfinished run, no held-out samples, weights that are not there, or labels or a segmenter of
            another data set.
    """
    folder = storage.absolute(config.run, "--run")
    output = storage.absolute(config.output, "--output")
    images = Images(DataSet(storage.absolute(config.data, "--data"), config.split))
    family, facts = checkpoint.restore(folder)
    require_inputs(images.data, models.load(facts["family"]).input_kind(family.recipe))
    vgg, origin = _network(config, family)
    distances = _distances(config, vgg, origin)
    pairs = protocol.held_out(images, config.limit, family.recipe.frame)
    figures: Figures = {"images": float(len(pairs["target"]))}
    segmenter, labels, segmented_by = None, None, None
    if found := _labels(config, images.data, len(pairs["target"]), family.recipe.frame):
        labelled, labels = found
        segmenter, segmented_by = _segmenter(config, labelled, str(facts["inputs"]["split"]), family.recipe.frame)
        figures |= _agreement("segmenter_{}_real", segmenter, pairs["target"], labels)
    sheets = {}
    with torch.no_grad():
        for stage in family.stages:
            if not {"input", "target"} <= set(next(iter(family.streams(stage.name).values())).fields):
                continue  # a stage that makes no pictures
            if not storage.exists(checkpoint.stage_path(folder, stage.name) + ".json"):
                continue  # taken over from another run
            there, _ = checkpoint.restore(folder, stage.name)
            rebuilt = protocol.reconstruction(there, pairs, distances, config.swaps)
            figures.update({f"{stage.name}/{name}": value for name, value in rebuilt.items()})
        for sampler in config.samplers or family.samplers:
            measured, one, rows = sampling(family, pairs, distances, vgg, sampler, config, images.data.labels)
            if segmenter is not None and labels is not None:
                measured |= _agreement("segmentation_{}", segmenter, one, labels)
            figures.update({f"{sampler}/{name}": value for name, value in measured.items()})
            if rows:
                sheets[f"samples-{sampler}"] = _sheet(rows, f"Samples: {sampler}", note(facts))
    path = storage.join(output, "evaluation.json")
    made_of = {"split": config.split, "weights": str(origin), "inputs": facts["inputs"], "segmenter": segmented_by}
    storage.publish_json(path, {"figures": figures, **made_of})
    for name, picture in sheets.items():
        storage.publish(storage.join(output, f"{name}.png"), decode.to_png(np.asarray(picture)))
    for name, value in figures.items():
        print(f"{name} {value}" if isinstance(value, str) else f"{name} {value:.4g}")
    print(path)
    if tracker:
        tracker.scalars({k: v for k, v in figures.items() if isinstance(v, float)}, 0)
        tracker.file(path)
        for name, picture in sheets.items():
            tracker.picture(name, picture, 0)
    return figures


def _network(config: Config, family: Family) -> tuple[VGG, Weights]:
    recipe = family.recipe
    if isinstance(recipe, PerceptualRecipe) and recipe.perceptual_layers and not config.net:
        return of_recipe(config.weights, recipe)
    net = config.net or "vgg19"
    return load_weights(config.weights, net, config.layers or ("relu1_2", "relu2_2", "relu3_1"))


def _distances(config: Config, vgg: VGG, origin: Weights) -> Distances:
    found: dict[str, metrics.Distance] = {
        "pixels_l1": metrics.pixel_distance,
        metrics.perceptual_name(vgg, origin.identity): partial(metrics.perceptual_distance, vgg),
    }
    for net in config.lpips:
        for version in VERSIONS:
            linear = f"{config.lpips_weights}/v{version}/{net}.pth"
            measure = open_lpips(net, version, f"{config.lpips_weights}/{BACKBONES[net][0]}", linear)
            found[measure.name] = measure
    return {name: protocol.batched(distance) for name, distance in found.items()}


def _labels(config: Config, data: DataSet, count: int, frame: tuple[int, int]) -> tuple[DataSet, Tensor] | None:
    """Where label maps are, and those of the held-out samples; None where there are none, or without a segmenter."""
    if not config.segmenter and not config.segmenter_steps:
        return None
    if not config.labels and data.fields["input"].kind != "labels":
        return None
    labelled = DataSet(storage.absolute(config.labels, "--labels"), config.split) if config.labels else data
    return labelled, protocol.labels_of(labelled, data, count, frame)


def _segmenter(
    config: Config, labelled: DataSet, split: str, frame: tuple[int, int]
) -> tuple[Segmenter, dict[str, Any]]:
    data = DataSet(labelled.root, split)
    if config.segmenter:
        return segmentation.given(storage.absolute(config.segmenter, "--segmenter"), data, frame)
    path = storage.join(storage.absolute(config.output, "--output"), "segmenter.pt")
    return segmentation.kept(path, data, frame, config.segmenter_steps, config.seed)


def _agreement(name: str, segmenter: Segmenter, images: Tensor, labels: Tensor) -> dict[str, float]:
    accuracy, overlap = metrics.agreement(segmentation.read_labels(segmenter, images), labels)
    return {name.format("accuracy"): accuracy, name.format("miou"): overlap}


def sampling(
    family: Family,
    pairs: Mapping[str, Tensor],
    distances: Distances,
    vgg: VGG,
    sampler: str,
    config: Config,
    labels: Sequence[str | None],
) -> tuple[Figures, Tensor, list[list[np.ndarray]]]:
    """Figures of the protocol's inputs and samples; precision, recall of one sample per held-out input among the true
    images; those samples (`N 3 H W`); the sheet's rows."""
    own = Protocol(config.inputs or 20, config.samples or 10, "consecutive")
    rule = protocol.PROTOCOLS.get(config.protocol, own)
    chosen = picks(len(pairs["input"]), rule.inputs)
    shown = rows_for_sheets(
        config.sheet,
        [labels[i] for i in chosen],
        lambda i: tensors.is_blank(tensors.to_uint8(pairs["input"][chosen[i]])),
    )
    on_sheet = {chosen[i] for i in shown}
    rows: list[list[np.ndarray]] = []

    def drawn() -> Iterator[tuple[Tensor, Tensor]]:
        for i in chosen:
            generator = seeded(config.seed, sampler, str(i))
            samples = protocol.draw(family, pairs["input"][i : i + 1], rule.samples, generator, sampler)
            if i in on_sheet:
                cells = [tensors.to_uint8(x) for x in (pairs["input"][i], pairs["target"][i])]
                shown = [tensors.to_uint8(x) for x in samples[:SHEET_SAMPLES]]
                rows.append([*cells, sheets.mosaic(shown, SHEET_COLUMNS)])
            yield samples, pairs["target"][i]

    means, seen = protocol.judge(drawn(), distances, rule.pairs, vgg)
    mark = f"diversity_{config.protocol}-{len(chosen)}x{rule.compared}_"
    found: Figures = {name.replace("diversity_", mark, 1): value for name, value in means.items()}
    found["diversity_protocol"] = (
        f"{config.protocol}: {len(chosen)} inputs x {rule.samples} samples, {rule.compared} {rule.pairs} "
        f"pairs of each, {len(chosen) * rule.compared} in all"
    )
    true = protocol.features(vgg, pairs["target"])
    found[f"recall_vgg_k3_of_{rule.samples}"] = metrics.covered(true[chosen], seen)
    one = torch.cat(
        [
            family.sample(batch, 1, seeded(config.seed, sampler, "one", str(i)), sampler)[:, 0]
            for i, batch in enumerate(protocol.batches(pairs))
        ]
    )
    precision, recall = metrics.precision_recall(true, protocol.features(vgg, one))
    return {**found, "precision_vgg_k3": precision, "recall_vgg_k3": recall}, one, rows


def _sheet(rows: list[list[np.ndarray]], title: str, note: str) -> Image.Image:
    side = max(rows[0][-1].shape[:2])
    cell = side * max(1, round(320 / side))  # a whole multiple: no pixel of a mosaic is drawn wider than another
    return sheets.sheet(rows, [], ["input", "truth", "samples"], title, note, cell)


if __name__ == "__main__":
    command.main(Config, run, __doc__)
