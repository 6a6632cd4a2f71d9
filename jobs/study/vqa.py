"""Question answering measured: the official metric, priors, questions alone, made-up shapes, captions.

`--data` is a folder of VQA v2's JSON (official_metric_vectors.json beside it), `--captions` a list of Flickr captions,
`--weights` and `--squeezenet` checkpoints for the features of pictures. What is not named is left out: its figures are
null.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import models.vqa
from models.common.seeds import seeded
from models.family import Batch, Facts, FieldSpec
from models.group import Group
from models.vqa import Answerers, Matcher, priors
from pipeline.data import decode, kinds
from pipeline.data.samples import Entry, Source
from pipeline.data.sources import captions, shapes, vqa
from pipeline.data.tensors import pictures_to_tensor
from pipeline.evaluation import retrieval
from pipeline.evaluation.vqa import Accuracies, Truth, report
from pipeline.style import features
from pipeline.style.features import FeatureOptions


@dataclass(frozen=True)
class Config:
    """What is measured, and how long is trained."""

    data: str = ""
    """Folder of VQA v2's JSON with splits train, valid, test; none: left out."""
    captions: str = ""
    """Flickr's list, images/ beside it; none: left out."""
    weights: str = ""
    """VGG-19 checkpoint in torchvision's names, to relu3_1 at least, for the shapes; none: left out."""
    squeezenet: str = ""
    """SqueezeNet 1.1 checkpoint in torchvision's names, for the captions' photographs; none: left out."""
    seeds: tuple[int, ...] = (0, 1, 2)
    questions: tuple[str, ...] = ("bow-q", "lstm-q")
    """Presets trained on the questions alone."""
    passes: int = 4
    """Over the questions."""
    scenes: int = 3000
    """Made-up training pictures."""
    scene_passes: int = 8
    caption_passes: int = 20
    margin: float = 25.0
    """m-DAN's: the paper's 100 is for vectors of 512 numbers, here they have 128."""
    threads: int = 1


SHAPE_FEATURES = FeatureOptions(layer="relu3_1", size=64)
"""Of the shapes: 8 x 8 regions."""
PHOTOGRAPH_FEATURES = FeatureOptions(net="squeezenet1_1", layer="fire9", size=224)
"""Of photographs: 6 x 6 regions."""
FIGURES = (
    "metric_vectors_wrong",
    "prior_yes",
    "prior_per_type",
    "bow_q",
    "synthetic_image_gain",
    "attention_on_object",
    "recall5_caption",
    "recall5_chance",
)


def run(config: Config) -> dict[str, Any]:
    """The figures, by name; the rows of the table are printed as they come."""
    torch.set_num_threads(config.threads)
    found: dict[str, Any] = dict.fromkeys(FIGURES)
    if config.data:
        found |= _metric(Path(config.data)) | _questions(config)
    if config.weights:
        found |= _shapes(config)
    if config.squeezenet and config.captions:
        found |= _captions(config)
    return found


# Samples in memory ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Set:
    """Samples as a family's batches, all in one."""

    batch: Batch
    facts: Facts

    def __len__(self) -> int:
        return len(self.batch["index"])

    def part(self, rows: Tensor) -> Batch:
        return {name: value[rows] for name, value in self.batch.items()}


def read(
    source: Source, entries: list[Entry], specs: Mapping[str, FieldSpec], facts: Facts | None, choice: float = 0.0
) -> Set:
    """The fields of `specs` of some entries, numbered by `facts` (none: their own)."""
    batch: Batch = {"index": torch.arange(len(entries))}
    known = dict(facts.fields) if facts else {}
    for name, spec in specs.items():
        kind = kinds.named(spec.kind)
        values = [kind.read(source.reader(entry.files[name], name)) for entry in entries]
        if name not in known:
            known[name] = kind.facts(values, ())
        batch |= kind.batch(name, values, spec, dict(known[name]), [choice] * len(values))
    return Set(batch, facts or Facts(len(entries), known))


def with_pictures(some: Set, grid: Tensor) -> Set:
    """Features `N h w C` as the fields that the networks see."""
    shapes_ = {"grid": {"shape": list(grid.shape[1:])}, "vector": {"shape": [grid.shape[-1]]}}
    return Set(
        {**some.batch, "grid": grid, "vector": grid.mean((1, 2))}, Facts(len(grid), {**some.facts.fields, **shapes_})
    )


def evened(sets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Features of splits in a range where tanh is not flat: the training split's root mean square becomes 0.4."""
    scale = 0.4 / float(sets["train"].square().mean().sqrt())
    return {split: grid * scale for split, grid in sets.items()}


def train(preset: models.vqa.Config, some: Set) -> Answerers | Matcher:
    """The family of a recipe, trained on samples in memory."""
    family = models.vqa.build(preset, Group(alone=True), None, some.facts)
    family.enter("main")
    orders: list[int] = []
    seen = 0

    def draw(_: str) -> Batch:
        while len(orders) < preset.batch:
            generator = seeded(preset.seed, "order", seen, len(orders))
            orders.extend(torch.randperm(len(some), generator=generator).tolist())
        rows, orders[: preset.batch] = orders[: preset.batch], []
        return some.part(torch.tensor(rows))

    while seen < preset.questions:
        family.update(draw, seen)
        seen += preset.batch
    return family.eval()


def told(name: str, seeds: tuple[int, ...], measure: Callable[[int], dict[str, float]]) -> dict[str, list[float]]:
    """`measure(seed)` of each seed; prints means, spreads and seconds."""
    began, rows = time.perf_counter(), [measure(seed) for seed in seeds]
    found = {key: [row[key] for row in rows] for key in rows[0]}
    line = ", ".join(f"{k} {statistics.mean(v):.2f} ({min(v):.2f} to {max(v):.2f})" for k, v in found.items())
    print(f"{name}: {line}; seeds {seeds}, {(time.perf_counter() - began) / len(seeds):.0f} s each", flush=True)
    return found


# The official metric, priors and questions alone ---------------------------------------------------------------------


def _metric(folder: Path) -> dict[str, Any]:
    cases = json.loads((folder / "official_metric_vectors.json").read_text())["cases"]
    truths = [Truth(c["question_id"], tuple(c["answers"]), c["question_type"], c["answer_type"]) for c in cases]
    found = report({c["question_id"]: c["prediction"] for c in cases}, truths).each
    wrong = sum(found[c["question_id"]] != c["official_accuracy_pct"] for c in cases)
    print(f"official metric: {wrong} of {len(cases)} vectors wrong", flush=True)
    return {"metric_vectors_wrong": wrong}


def _named(split: str) -> str:
    return f"vqa_questions_{split}.gzip,vqa_annotatons_{split}.gzip"


def truths_of(source: vqa.Questions, split: str) -> list[Truth]:
    """What people answered."""
    return [
        Truth(a["question_id"], tuple(x["answer"] for x in a["answers"]), a["question_type"], a["answer_type"])
        for q in source.splits[split][0]
        for a in [source.splits[split][1][q["question_id"]]]
    ]


def accuracies(family: Answerers, some: Set, truths: list[Truth]) -> Accuracies:
    """The official figures of a trained family."""
    best = torch.cat([family.answer(some.part(rows)).argmax(1) for rows in torch.split(torch.arange(len(some)), 500)])
    return report({t.question: family.answers[int(i)] for t, i in zip(truths, best, strict=True)}, truths)


def _questions(config: Config) -> dict[str, Any]:
    source = vqa.Questions(config.data, vqa.Options(_named("train"), _named("valid"), _named("test")))
    truths = truths_of(source, "test")
    rows = list(source.splits["train"][1].values())
    answers = [row["multiple_choice_answer"] for row in rows]
    by_type = priors.type_priors([row["question_type"] for row in rows], answers)
    yes = report({t.question: priors.prior(answers) for t in truths}, truths)
    typed = report({t.question: by_type[t.question_type] for t in truths}, truths)
    drawn = priors.random_answers(priors.top_answers(answers, 1000), len(truths), seeded(0, "random"))
    chance = report({t.question: a for t, a in zip(truths, drawn, strict=True)}, truths)
    for name, one in (("random", chance), ("prior yes", yes), ("per type", typed)):
        print(f"{name}: {one.overall}, {one.by_answer_type}", flush=True)
    found: dict[str, Any] = {"prior_yes": yes.overall, "prior_per_type": typed.overall}
    listed = source.samples()
    for name in config.questions:
        preset = models.vqa.PRESETS[name]
        specs = models.vqa.fields(preset)
        training = read(source, listed["train"], specs, None)
        test = read(source, listed["test"], specs, training.facts)

        def measure(seed: int, preset: models.vqa.Config = preset, training: Set = training, test: Set = test) -> Any:
            # Few questions: a tenth of the batch, and a few passes.
            short = replace(preset, seed=seed, batch=100, rate=5e-4, questions=config.passes * len(training))
            family = train(short, training)
            assert isinstance(family, Answerers)
            one = accuracies(family, test, truths)
            return {"all": one.overall, **one.by_answer_type}

        figures = told(name, config.seeds, measure)
        found[name.replace("-", "_")] = round(statistics.mean(figures["all"]), 2)
    return found


# Shapes --------------------------------------------------------------------------------------------------------------


def grids(net: features.Network, pictures: list[np.ndarray], pool: int) -> Tensor:
    """`N h w C`: the deepest layer of pictures of one size, max-pooled by `pool`."""
    parts = [pictures[i : i + 32] for i in range(0, len(pictures), 32)]
    return torch.cat([features.grid(net, pool, pictures_to_tensor(part)) for part in parts])


def on_object(family: Answerers, some: Set) -> tuple[float, float]:
    """Share of the last step's attention mass within the box of the thing asked about, and the box's share of the
    picture, which even attention would give; of questions about one thing."""
    rows = torch.nonzero((some.batch["box"][:, 2] > 0) & (some.batch["about_one"] > 0))[:, 0]
    with torch.no_grad():
        maps = family.scores(some.part(rows))[1]
    assert maps is not None
    high, wide = some.batch["grid"].shape[1:3]
    top, left, bottom, right = some.batch["box"][rows].T

    def inside(first: Tensor, last: Tensor, cells: int) -> Tensor:
        """Share of each cell that lies in the box, along one side: `B cells`."""
        edges = torch.arange(cells + 1) / cells
        return (torch.minimum(last[:, None], edges[1:]) - torch.maximum(first[:, None], edges[:-1])).clamp(0) * cells

    share = inside(top, bottom, high)[:, :, None] * inside(left, right, wide)[:, None]  # B h w
    mass = (maps.image[:, -1].reshape(-1, high, wide) * share).sum((1, 2))
    return float(mass.mean()), float(share.mean())


def _shapes(config: Config) -> dict[str, Any]:
    source, net = shapes.Shapes(shapes.Options(config.scenes, 600)), features.network(config.weights, SHAPE_FEATURES)[0]
    listed, specs = source.samples(), {**models.vqa.fields(models.vqa.PRESETS["r-dan"]), "box": FieldSpec("array")}
    del specs["grid"]
    pictured = {
        split: grids(net, [decode.pixels(source.reader(e.files["image"], "image")) for e in listed[split]], 2)
        for split in ("train", "val")
    }
    sets: dict[str, Set] = {}
    for split, grid in evened(pictured).items():
        sets[split] = with_pictures(read(source, listed[split], specs, sets["train"].facts if sets else None), grid)
        one = [e.source.rpartition("/")[2] in ("color", "shape") for e in listed[split]]
        sets[split].batch["about_one"] = torch.tensor(one).long()
    table: dict[str, dict[str, list[float]]] = {}
    for name in ("lstm-q", "deeper-lstm-q-norm-i", "r-dan"):

        def measure(seed: int, name: str = name) -> dict[str, float]:
            # Narrower than the papers', RMSProp for all: few questions.
            preset = replace(models.vqa.PRESETS[name], seed=seed, hidden=128, embedding=128, joint=256, mlp=(256,))
            preset = replace(preset, optimiser="rmsprop", rate=2e-3, batch=50, clip_norm=5.0, weight_decay=0.0)
            preset = replace(preset, dropout=0.0, drop_at=0, longest=8, questions=config.scene_passes * config.scenes)
            family = train(preset, sets["train"])
            assert isinstance(family, Answerers)
            best = family.answer(sets["val"].batch).argmax(1)
            right = (best == sets["val"].batch["answers"].argmax(1)).double()
            figures = {"all": 100 * float(right.mean())}
            for number, kind in enumerate(shapes.TYPES):
                figures[kind] = 100 * float(right[number :: len(shapes.TYPES)].mean())
            if name == "r-dan":
                mass, chance = on_object(family, sets["val"])
                figures |= {"attention": mass, "attention_chance": chance}
            return figures

        table[name] = told(f"shapes, {name}", config.seeds, measure)
    question, both, dan = (statistics.mean(row["all"]) for row in table.values())
    return {
        "synthetic_question": round(question, 2),
        "synthetic_lstm_image": round(both, 2),
        "synthetic_rdan": round(dan, 2),
        "synthetic_image_gain": round(dan - question, 2),
        "attention_on_object": round(statistics.mean(table["r-dan"]["attention"]), 3),
        "attention_chance": round(statistics.mean(table["r-dan"]["attention_chance"]), 3),
    }


# Captions ------------------------------------------------------------------------------------------------------------


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


def _captions(config: Config) -> dict[str, Any]:
    source = captions.Captions(config.captions, captions.Options(splits="800,100,100"))
    net = features.network(config.squeezenet, PHOTOGRAPH_FEATURES)[0]
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

    def measure(seed: int) -> dict[str, float]:
        preset = replace(models.vqa.PRESETS["m-dan"], seed=seed, hidden=128, optimiser="rmsprop", rate=1e-3, batch=100)
        preset = replace(preset, clip_norm=1.0, weight_decay=1e-5, drop_at=0, margin=config.margin)
        family = train(replace(preset, questions=config.caption_passes * len(pairs)), pairs)
        assert isinstance(family, Matcher)
        texts = torch.cat([family.embed(some.batch, "caption") for some in test])
        return both_ways(family.embed(test[0].batch, "grid"), texts, torch.arange(size).repeat(5))

    found = told("captions, m-dan", config.seeds, measure)
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
