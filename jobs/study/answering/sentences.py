"""Captions: images found for sentences and sentences for images, against chance and mean features."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import models.vqa
from jobs.study.answering.sets import Row, Set, Table, evened, grids, read, train, with_pictures
from models.family import Batch, FieldSpec
from models.vqa import Matcher
from pipeline.data import decode
from pipeline.data.sources import captions
from pipeline.evaluation import priors, retrieval
from pipeline.style import features
from pipeline.style.features import FeatureOptions

PHOTOGRAPH_FEATURES = FeatureOptions(net="squeezenet1_1", layer="fire9", size=224)
"""6 x 6 regions."""


def both_ways(images: Tensor, texts: Tensor, owner: Tensor) -> dict[str, float]:
    """Recalls of sentences for images (`text_...`) and of images for sentences (`image_...`); `owner`: each sentence's
    image."""
    i, t, own = images.numpy(), texts.numpy(), owner.numpy()
    found = {}
    ways = {"text": (i, t, np.arange(len(i)), own), "image": (t, i, own, np.arange(len(i)))}
    for name, given in ways.items():
        for key, value in retrieval.recalls(retrieval.ranks(*given)).items():
            found[f"{name}_{key}"] = value if key == "median_rank" else 100 * value
    return found


def mean_features(training: list[Set], test: list[Set], words: int, ridge: float = 1000.0) -> dict[str, float]:
    """The baseline: bags of words predicted from the mean of a picture's features by ridge regression, compared by
    cosine."""

    def bags(some: Set) -> Tensor:
        return priors.bag([row[row > 0].tolist() for row in some.batch["caption"]], words)

    x = torch.nn.functional.normalize(training[0].batch["vector"]).double()
    y = torch.stack([bags(some) for some in training]).mean(0).double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    a = (x - mean_x).T @ (x - mean_x) + ridge / len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(a, (x - mean_x).T @ (y - mean_y))
    seen = torch.nn.functional.normalize(test[0].batch["vector"]).double() - mean_x
    images = torch.nn.functional.normalize(seen @ weights)
    texts = torch.cat([torch.nn.functional.normalize(bags(some).double() - mean_y) for some in test])
    return both_ways(images.float(), texts.float(), torch.arange(len(images)).repeat(len(test)))


def measure(path: str, weights: str, passes: int, table: Table) -> dict[str, Any]:
    """The figures; `path`: Flickr's list, `weights`: of SqueezeNet 1.1."""
    source = captions.Captions(path, captions.Options(splits="800,100,100"))
    net = features.network(weights, PHOTOGRAPH_FEATURES)[0]
    listed, specs = source.samples(), {"caption": FieldSpec("tokens", length=26)}
    words = read(source, listed["train"], specs, None).facts
    pictured = {
        split: grids(net, [_square(source.reader(e.files["image"], "image")) for e in listed[split]], 2)
        for split in ("train", "test")
    }
    sets: dict[str, list[Set]] = {}
    for split, grid in evened(pictured).items():
        each = [read(source, listed[split], specs, words, (i + 0.5) / 5) for i in range(5)]
        sets[split] = [with_pictures(some, grid) for some in each]
    test = sets["test"]
    size = len(test[0])
    pairs = joined(sets["train"])
    vocabulary = len(words.fields["caption"]["words"]) + 2
    baseline = mean_features(sets["train"], test, vocabulary)
    print("captions, mean features: " + ", ".join(f"{k} {v:.1f}" for k, v in baseline.items()), flush=True)

    def of_seed(seed: int) -> Row:
        preset = replace(models.vqa.PRESETS["m-dan"], seed=seed, hidden=128, optimiser="rmsprop", rate=1e-3, batch=100)
        preset = replace(preset, clip_norm=1.0, weight_decay=1e-5, drop_at=0, margin=25.0)
        family, _ = train(replace(preset, questions=passes * len(pairs)), pairs)
        assert isinstance(family, Matcher)
        texts = torch.cat([family.embed(some.batch, "caption") for some in test])
        return both_ways(family.embed(test[0].batch, "grid"), texts, torch.arange(size).repeat(5))

    found = table.row("captions m-dan", {}, of_seed)
    recall = statistics.mean((statistics.mean(found["text_recall5"]), statistics.mean(found["image_recall5"])))
    by_chance = (retrieval.chance(5 * size, 5, 5) + retrieval.chance(size, 1, 5)) / 2
    mean = (baseline["text_recall5"] + baseline["image_recall5"]) / 2
    figures = {"recall5_caption": recall, "recall5_chance": 100 * by_chance, "recall5_mean_features": mean}
    return {name: round(value, 2) for name, value in figures.items()}


def _square(data: bytes) -> np.ndarray:
    return decode.stretch(decode.pixels(data), 224, 224, False)


def joined(some: list[Set]) -> Set:
    """All sentences of the images as samples; an image keeps its number."""
    longest = max(one.batch["caption"].shape[1] for one in some)
    batch: Batch = {}
    for name in some[0].batch:
        parts = [one.batch[name] for one in some]
        if name == "caption":
            parts = [torch.nn.functional.pad(part, (0, longest - part.shape[1])) for part in parts]
        batch[name] = torch.cat(parts)
    return Set(batch, some[0].facts)
