"""What the measures of one evaluation share: the run, the held-out samples, the networks. Each is made when a measure
first asks for it, so nothing is loaded in vain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from models.abilities import DrawsSamples
from models.common.lpips import BACKBONES, Version, open_lpips
from models.common.seeds import seeded
from models.common.segmenter import Segmenter
from models.common.vgg import VGG
from models.family import Batch, Family, PerceptualRecipe, Recipe
from pipeline.artifacts import storage
from pipeline.artifacts.progress import follow
from pipeline.data import kinds
from pipeline.data.images import Images
from pipeline.data.shards import DataSet
from pipeline.evaluation import classification, metrics, protocol, segmentation
from pipeline.evaluation.classification import Reader
from pipeline.evaluation.protocol import Distances, Protocol
from pipeline.evaluation.remembered import Remembered
from pipeline.runs import checkpoint
from pipeline.runs.sampler import Trained
from pipeline.style.weights import Weights, identity, load_weights, of_recipe

ROOM = 1 << 29
"""Bytes of samples that are kept."""
VERSIONS: tuple[Version, ...] = ("0.0", "0.1")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the measures measure."""

    weights: str = "torchvision"
    """VGG checkpoint of the perceptual distance and of the features: path, URL, `torchvision`, or `random`."""
    net: Literal["", "vgg16", "vgg19"] = ""
    """That network; none: the recipe's, or VGG-19 if the recipe has none."""
    layers: tuple[str, ...] = ()
    """Its layers, if --net is given; none: relu1_2, relu2_2, relu3_1."""
    limit: int = 200
    """Held-out samples that are measured, at most: the first ones."""
    protocol: Literal["own", "bicyclegan", "imle"] = "own"
    """How diversity is measured. `bicyclegan`: 100 inputs x 20 samples, each compared with the next. `imle`: 100 inputs
    x 80 samples, compared in 40 pairs. `own`: --inputs x --samples, each compared with the next."""
    inputs: int = 0
    """For `--protocol own`: number of inputs; 0: 20."""
    samples: int = 0
    """For `--protocol own`: samples of each input; 0: 10."""
    samplers: tuple[str, ...] = ()
    """Ways to draw samples; none: all that the family has."""
    swaps: int = 24
    """Held-out samples whose style codes are exchanged: each code is tried on each input."""
    sheet: int = 4
    """Inputs on each sampler's sheet; 0: no sheet."""
    labels: str = ""
    """Data set of the same photographs with their label maps; none: --data, if its inputs are label maps."""
    segmenter: str = ""
    """segmenter.pt of another evaluation on the same label maps; none: the one in --output, trained now if it is not
    there yet."""
    segmenter_steps: int = 600
    """Batches of 16 that the segmenter is trained with; 0: no segmenter."""
    classifier: str = ""
    """classifier.pt of another evaluation, of any data set with pictures of the size; none: the one in --output,
    trained now on the run's own data set if it is not there yet."""
    classifier_steps: int = 600
    """Batches of 100 that the classifier is trained with; 0: no classifier."""
    lpips: tuple[Literal["alex", "vgg", "squeeze"], ...] = ()
    """LPIPS networks to measure with, versions 0.0 and 0.1."""
    lpips_weights: str = ""
    """Folder of the LPIPS weights: torchvision's backbone files, and the linear layers as v0.1/alex.pth."""
    seed: int = 0
    """Random seed."""

    def __post_init__(self) -> None:
        if self.protocol != "own" and (self.inputs or self.samples):
            raise ValueError(f"--protocol {self.protocol} has its own --inputs and --samples: leave them out")
        if self.inputs < 0 or self.samples < 0 or self.samples == 1:
            raise ValueError(f"--inputs {self.inputs}, --samples {self.samples}: give at least 1 and 2, or 0")
        if min(self.sheet, self.segmenter_steps, self.classifier_steps) < 0 or self.limit < 1:
            given = f"--limit {self.limit}, --sheet {self.sheet}, --segmenter-steps {self.segmenter_steps}"
            raise ValueError(f"{given}, --classifier-steps {self.classifier_steps}: give at least 1, 0, 0, 0")


class Setting:
    """One run on one data set."""

    def __init__(self, run: Trained, folder: str, data: DataSet, output: str, options: Options) -> None:
        """`folder`: of the run; `output`: where a segmenter is kept."""
        self.run, self.folder, self.data, self.output, self.options = run, folder, data, output, options
        self.notes: dict[str, Any] = {}
        """What evaluation.json says beside the figures: weights, segmenter, classifier."""
        self._ones: dict[str, Tensor] = {}
        self._drawn: dict[tuple[str, int], Tensor] = {}

    @property
    def request(self) -> dict[str, Any]:
        """What the figures depend on: the run's weights, the data, the options; files by their hashes."""
        options = self.options
        stages = {stage.name: checkpoint.stage_path(self.folder, stage.name) + ".json" for stage in self.family.stages}
        there = [name for name, marker in stages.items() if storage.exists(marker)]
        labels = storage.absolute(options.labels, "--labels") if options.labels else ""
        return {
            **{f.name: getattr(options, f.name) for f in fields(Options)},
            "run": [checkpoint.identity(self.folder, stage) for stage in ("", *there)],
            "data": [self.data.fingerprint, self.data.split],
            "weights": identity(options.weights),
            "labels": DataSet(labels, self.data.split).fingerprint if labels else "",
            "segmenter": identity(options.segmenter) if options.segmenter else "",
            "classifier": identity(options.classifier) if options.classifier else "",
        }

    @property
    def family(self) -> Family:
        return self.run.family

    @cached_property
    def images(self) -> Images:
        return self.run.images(self.data)

    @property
    def rule(self) -> Protocol:
        """Of how many inputs how many samples are drawn, and which of them are compared."""
        own = Protocol(self.options.inputs or 20, self.options.samples or 10, "consecutive")
        return protocol.PROTOCOLS.get(self.options.protocol, own)

    @property
    def count(self) -> int:
        """Held-out samples that are measured."""
        return min(len(self.data), self.options.limit)

    def batches(self, size: int = protocol.BATCH) -> Iterator[Batch]:
        """All measured samples, centred, in key order, with all fields but those (words, classes) that the training set
        had not: they could not be numbered."""
        known, there = self.run.facts.fields, self.data.fields
        numbered = [n for n, field in there.items() if kinds.named(field.kind).column is None or n in known]
        for start in follow(range(0, self.count, size), "held-out samples", unit="batches"):
            positions = range(start, min(start + size, self.count))
            yield self.images.centred(positions, numbered, self.run.frame)

    def each(self, field: str, size: int = protocol.BATCH) -> Iterator[Batch]:
        """All values of one field of the measured samples in key order: of a text each of its sentences, as a row of
        its own."""
        text = self.data.fields[field].kind == "tokens"
        counts = [len(self.data.column(field)[i]) if text else 1 for i in range(self.count)]
        rows = [(i, (k + 0.5) / count) for i, count in enumerate(counts) for k in range(count)]
        for start in range(0, len(rows), size):
            positions, choices = zip(*rows[start : start + size], strict=True)
            yield self.images.centred(positions, [field], self.run.frame, choices)

    @cached_property
    def note(self) -> str:
        """What a sheet says of the features of pictures that a family reads; nothing where it reads none."""
        made = storage.read_json(storage.join(self.data.root, "request.json"))["options"]["source"]
        if made.get("kind") != "features":
            return ""
        random = ", RANDOM weights" if str(made["weights"]).startswith("random") else ""
        return f"features: {made['net']} {made['layer']}{random}"

    @cached_property
    def pairs(self) -> Batch:
        """The measured samples' pictures (`input`, where there is one, and `target`), and the fields that the family
        reads: one batch."""
        names = {"target", *self.family.reads} & set(self.data.fields)
        found = [{n: v for n, v in b.items() if n in names or n == "index"} for b in self.batches()]
        return {name: torch.cat([b[name] for b in found]) for name in found[0]}

    @cached_property
    def _network(self) -> tuple[Remembered, Weights]:
        vgg, weights = judging(self.family.recipe, self.options)
        self.notes["weights"] = str(weights)
        return Remembered(vgg), weights

    @property
    def vgg(self) -> Remembered:
        return self._network[0]

    @cached_property
    def distances(self) -> Distances:
        """Name -> distance of two pictures, a few at a time."""
        vgg, origin = self._network
        found: dict[str, metrics.Distance] = {
            "pixels_l1": metrics.pixel_distance,
            metrics.perceptual_name(vgg, origin.identity): partial(metrics.perceptual_distance, vgg),
        }
        where = self.options.lpips_weights
        for net in self.options.lpips:
            for version in VERSIONS:
                measure = open_lpips(net, version, f"{where}/{BACKBONES[net][0]}", f"{where}/v{version}/{net}.pth")
                found[measure.name] = measure
        return {name: protocol.batched(distance) for name, distance in found.items()}

    @cached_property
    def _labelled(self) -> tuple[DataSet, Tensor] | None:
        options = self.options
        field = self.data.fields.get("input")
        if not options.labels and (field is None or field.kind != "labels"):
            return None
        data = DataSet(storage.absolute(options.labels, "--labels"), self.data.split) if options.labels else self.data
        return data, protocol.labels_of(data, self.data, self.count, self.run.frame)

    @property
    def labels(self) -> Tensor | None:
        """Label ids `N H W` of the measured samples; None where there are none, or without a segmenter."""
        if not self.options.segmenter and not self.options.segmenter_steps:
            return None
        return self._labelled[1] if self._labelled else None

    @cached_property
    def segmenter(self) -> Segmenter:
        """Raises ValueError: without label maps, or one of another data set was given."""
        if self._labelled is None:
            raise ValueError("no label maps: give --labels")
        split, options = str(self.run.described["inputs"]["split"]), self.options
        data = DataSet(self._labelled[0].root, split)
        with torch.enable_grad():  # it may be trained here
            if options.segmenter:
                path = storage.absolute(options.segmenter, "--segmenter")
                found, facts = segmentation.given(path, data, self.run.frame)
            else:
                path = storage.join(self.output, "segmenter.pt")
                found, facts = segmentation.kept(path, data, self.run.frame, options.segmenter_steps, options.seed)
        self.notes["segmenter"] = facts
        return found

    @cached_property
    def training(self) -> Images:
        """The samples that the run was trained on."""
        return self.run.images(DataSet(self.data.root, str(self.run.described["inputs"]["split"])))

    @cached_property
    def classifier(self) -> Reader | None:
        """None where none is wanted."""
        options = self.options
        if not options.classifier and not options.classifier_steps:
            return None
        with torch.enable_grad():  # it may be trained here
            if options.classifier:
                path = storage.absolute(options.classifier, "--classifier")
                found, facts = classification.given(path, self.run.frame)
            else:
                path, steps = storage.join(self.output, "classifier.pt"), options.classifier_steps
                found, facts = classification.kept(path, self.training, self.run.frame, steps, options.seed)
        self.notes["classifier"] = facts
        return found

    def one_each(self, sampler: str) -> Tensor:
        """`N C H W`: one sample for each measured one."""
        if sampler not in self._ones:
            family, seed = self.family, self.options.seed
            assert isinstance(family, DrawsSamples)
            self._ones[sampler] = torch.cat(
                [
                    family.sample(batch, 1, seeded(seed, sampler, "one", str(i)), sampler)[:, 0]
                    for i, batch in enumerate(protocol.batches(self.pairs, f"one sample each: {sampler}"))
                ]
            )
        return self._ones[sampler]

    def drawn(self, sampler: str, i: int) -> Tensor:
        """`M C H W`: the protocol's samples of measured sample `i`. Kept, as far as there is room, where several
        measures ask for them."""
        if (sampler, i) in self._drawn:
            return self._drawn[sampler, i]
        family = self.family
        assert isinstance(family, DrawsSamples)
        generator = seeded(self.options.seed, sampler, str(i))
        found = protocol.draw(family, part(self.pairs, slice(i, i + 1)), self.rule.samples, generator, sampler)
        if "truths" in self.data.fields and found.nbytes * (len(self._drawn) + 1) < ROOM:
            self._drawn[sampler, i] = found
        return found

    def agreement(self, name: str, pictures: Tensor) -> dict[str, float]:
        """How well the segmenter reads the labels back from pictures of the measured samples."""
        assert self.labels is not None
        accuracy, overlap = metrics.agreement(segmentation.read_labels(self.segmenter, pictures), self.labels)
        return {name.format("accuracy"): accuracy, name.format("miou"): overlap}


def judging(recipe: Recipe, options: Options) -> tuple[VGG, Weights]:
    """The network that judges pictures: the one that the run was trained with, unless the options name another.

    Raises:
        ValueError: its weights cannot be had.
    """
    if isinstance(recipe, PerceptualRecipe) and recipe.perceptual_layers and not options.net:
        return of_recipe(options.weights, recipe)
    layers = options.layers or ("relu1_2", "relu2_2", "relu3_1")
    return load_weights(options.weights, options.net or "vgg19", layers)


def part(batch: Batch, positions: Sequence[int] | slice | np.ndarray | Tensor) -> Batch:
    """Some rows of a batch."""
    return {name: value[positions] for name, value in batch.items()}
