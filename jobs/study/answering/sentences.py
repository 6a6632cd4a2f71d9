"""Captions: images found for sentences and sentences for images, against chance and mean features."""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import models.vqa
from jobs.study.answering.sets import Row, Set, Table, evened, grids, read, train, with_pictures
from models.family import Batch, FieldSpec
from models.vqa import Answerers, Matcher
from pipeline.data import decode
from pipeline.data.sources import captions
from pipeline.evaluation import priors, retrieval
from pipeline.style import features
from pipeline.style.features import FeatureOptions

PHOTOGRAPH_FEATURES = FeatureOptions(net="squeezenet1_1", layer="fire9", size=224)
"""6 x 6 regions."""
RIDGES = (10.0, 100.0, 1000.0, 10000.0)
SIZES = (200, 400, 800)
"""Training images, five sentences each."""
TRAINED = replace(
    models.vqa.PRESETS["m-dan"],
    hidden=128,
    optimiser="rmsprop",
    rate=1e-3,
    batch=100,
    clip_norm=1.0,
    weight_decay=1e-5,
    drop_at=0,
    margin=25.0,
)
"""Narrower than the paper's, the margin alike (100 is for vectors of 512 numbers), RMSProp: few pairs."""


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


def mean_features(training: list[Set], others: list[list[Set]], words: int, ridge: float) -> list[dict[str, float]]:
    """The baseline: bags of words predicted from the mean of a picture's features by ridge regression, compared by
    cosine. Of each of `others` its recalls."""

    def bags(some: Set) -> Tensor:
        return priors.bag([row[row > 0].tolist() for row in some.batch["caption"]], words)

    def seen(some: list[Set]) -> Tensor:
        return torch.nn.functional.normalize(some[0].batch["vector"]).double()

    x, y = seen(training), torch.stack([bags(some) for some in training]).mean(0).double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    a = (x - mean_x).T @ (x - mean_x) + ridge / len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(a, (x - mean_x).T @ (y - mean_y))
    found = []
    for each in others:
        images = torch.nn.functional.normalize((seen(each) - mean_x) @ weights)
        texts = torch.cat([torch.nn.functional.normalize(bags(some).double() - mean_y) for some in each])
        found.append(both_ways(images.float(), texts.float(), torch.arange(len(images)).repeat(len(each))))
    return found


def recalls(family: Answerers | Matcher, each: list[Set]) -> dict[str, float]:
    assert isinstance(family, Matcher)
    texts = torch.cat([family.embed(some.batch, "caption") for some in each])
    return both_ways(family.embed(each[0].batch, "grid"), texts, torch.arange(len(each[0])).repeat(len(each)))


def fifth(found: dict[str, float]) -> float:
    """Recall at 5, the mean of both ways."""
    return (found["text_recall5"] + found["image_recall5"]) / 2


def first(each: list[Set], images: int) -> list[Set]:
    return [Set(some.part(torch.arange(images)), some.facts) for some in each]


def measure(path: str, weights: str, passes: int, table: Table) -> dict[str, Any]:
    """The figures; `path`: Flickr's list, `weights`: of SqueezeNet 1.1. On test, with the settings and the pass that
    are best on val; `seen_...`: on the first 100 training images, as many as test has."""
    sets, identity = _sets(path, weights)
    valid, test, seen = sets["val"], sets["test"], first(sets["train"], len(sets["test"][0]))
    vocabulary = len(test[0].facts.fields["caption"]["words"]) + 2

    def by_ridge(_: int) -> Row:
        tried = [mean_features(sets["train"], [valid, test, seen], vocabulary, ridge) for ridge in RIDGES]
        judged, on_test, on_seen = max(tried, key=lambda one: fifth(one[0]))
        return {**on_test, "valid_recall5": fifth(judged), "seen_recall5": fifth(on_seen)}

    def of_seed(preset: models.vqa.Config, pairs: Set, seed: int) -> Row:
        family, judged = train(replace(preset, seed=seed), pairs, lambda now: fifth(recalls(now, valid)), passes)
        best = max(judged)
        row = {**recalls(family, test), "valid_recall5": best, "passes": float(judged.index(best) + 1)}
        return {**row, "seen_recall5": fifth(recalls(family, seen))}

    asked = {"features": PHOTOGRAPH_FEATURES, "weights": identity}
    baseline = table.row("captions mean features", {**asked, "ridges": RIDGES}, by_ridge, (0,))
    found: dict[str, list[float]] = {}
    for images in SIZES:
        pairs = joined(first(sets["train"], images))
        # As many pairs are seen whatever the size, so that the curve is of the data alone.
        preset = replace(TRAINED, questions=passes * 5 * SIZES[-1])
        found = table.row(f"captions m-dan {images}", {**asked, "preset": preset}, partial(of_seed, preset, pairs))
    size = len(test[0])
    by_chance = (retrieval.chance(5 * size, 5, 5) + retrieval.chance(size, 1, 5)) / 2
    ours, means = (statistics.mean(one["text_recall5"] + one["image_recall5"]) for one in (found, baseline))
    figures = {"recall5_caption": ours, "recall5_chance": 100 * by_chance, "recall5_mean_features": means}
    return {name: round(value, 2) for name, value in figures.items()}


def _sets(path: str, weights: str) -> tuple[dict[str, list[Set]], str]:
    """Split -> its images with each of their five sentences in turn; the identity of the features' weights."""
    source = captions.Captions(path, captions.Options(splits="800,100,100"))
    net, origin = features.network(weights, PHOTOGRAPH_FEATURES)
    listed, specs = source.samples(), {"caption": FieldSpec("tokens", length=26)}
    words = read(source, listed["train"], specs, None).facts
    pictured = {
        split: grids(net, [_square(source.reader(e.files["image"], "image")) for e in entries], 2)
        for split, entries in listed.items()
    }
    sets = {}
    for split, grid in evened(pictured).items():
        each = [read(source, listed[split], specs, words, (i + 0.5) / 5) for i in range(5)]
        sets[split] = [with_pictures(some, grid) for some in each]
    return sets, origin.identity


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
