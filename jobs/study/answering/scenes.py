"""Made-up shapes: what the image adds to the question, and whether attention lies on the object asked about."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import models.vqa
from jobs.study.answering.sets import Row, Set, Table, evened, grids, read, train, with_pictures
from models.family import FieldSpec
from models.vqa import Answerers
from pipeline.data import decode
from pipeline.data.sources import shapes
from pipeline.style import features
from pipeline.style.features import FeatureOptions

SHAPE_FEATURES = FeatureOptions(layer="relu3_1", size=64)
"""8 x 8 regions."""
HELD_OUT = 600
TRAINED = ("i", "bow-q", "bow-q-i", "lstm-q", "lstm-q-i", "deeper-lstm-q", "deeper-lstm-q-norm-i", "r-dan")


def on_object(family: Answerers, some: Set) -> tuple[list[float], float]:
    """Of each step the share of attention mass within the box of the thing asked about, and the box's share of the
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
    mass = (maps.image * share.flatten(1)[:, None]).sum(2).mean(0)  # K
    return mass.tolist(), float(share.mean())


def measure(weights: str, scenes: int, passes: int, table: Table) -> dict[str, Any]:
    """The figures; `weights`: of VGG-19. The settings were chosen on scenes of another seed."""
    source = shapes.Shapes(shapes.Options(scenes, HELD_OUT, seed=1))
    net, origin = features.network(weights, SHAPE_FEATURES)
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
    found: dict[str, dict[str, list[float]]] = {}
    for name in TRAINED:
        # Narrower than the papers', RMSProp for all: few questions.
        preset = replace(models.vqa.PRESETS[name], hidden=128, embedding=128, joint=256, mlp=(256,))
        preset = replace(preset, optimiser="rmsprop", rate=2e-3, batch=50, clip_norm=5.0, weight_decay=0.0)
        preset = replace(preset, dropout=0.0, drop_at=0, longest=8, questions=passes * scenes)

        def of_seed(seed: int, name: str = name, preset: models.vqa.Config = preset) -> Row:
            family, _ = train(replace(preset, seed=seed), sets["train"])
            assert isinstance(family, Answerers)
            best = family.answer(sets["val"].batch).argmax(1)
            right = (best == sets["val"].batch["answers"].argmax(1)).double()
            figures = {"all": 100 * float(right.mean())}
            for number, kind in enumerate(shapes.TYPES):
                figures[kind] = 100 * float(right[number :: len(shapes.TYPES)].mean())
            if name == "r-dan":
                mass, chance = on_object(family, sets["val"])
                figures |= {f"attention_step{k}": one for k, one in enumerate(mass, start=1)}
                figures |= {"attention": max(mass), "attention_chance": chance}
            return figures

        settings = {"preset": preset, "features": SHAPE_FEATURES, "weights": origin.identity, "scenes": scenes}
        found[name] = table.row(f"shapes {name}", settings, of_seed)
    question, both, dan = (statistics.mean(found[name]["all"]) for name in ("lstm-q", "deeper-lstm-q-norm-i", "r-dan"))
    return {
        "synthetic_question": round(question, 2),
        "synthetic_lstm_image": round(both, 2),
        "synthetic_rdan": round(dan, 2),
        "synthetic_image_gain": round(dan - question, 2),
        "attention_on_object": round(statistics.mean(found["r-dan"]["attention"]), 3),
        "attention_chance": round(statistics.mean(found["r-dan"]["attention_chance"]), 3),
    }
