"""Codes that a PixelCNN is given: its own encoder's, and a StEP encoder's. How much it uses them, and what they leave
open."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import models.step
from jobs import describe, neighbours, shard
from jobs.study.pixels.runs import Place, batches, joined, mean, recipe_of, train
from models.common.seeds import seeded
from models.family import Batch
from models.pixelcnn import PixelCNN, SquaredAutoEncoder
from models.pixelcnn.sampling import uniforms
from models.step import StEP
from pipeline.data import decode, shards
from pipeline.data.tensors import to_uint8
from pipeline.neighbours.options import Exact
from pipeline.style.descriptors import DescribeOptions
from pipeline.tracking import sheets

SMALL = 16
"""Pixels of the auto-encoders' digits."""
SHOE = 32
ROWS, DRAWN = 8, 6


def auto_encoders(place: Place, data: str, images: int) -> dict[str, Any]:
    """Both auto-encoders on small digits: likelihood with the own and with another picture's code; a sheet."""
    changes = {"size": SMALL, "layers": 5, "dilations": (1, 2, 1, 2, 1)}
    run, cost = train(place, "digits-code", recipe_of("mnist-autoencoder", images, **changes), data, images)
    plain, _ = train(place, "digits-squared", recipe_of("mnist-squared", images, **changes), data, images)
    family, squared = run.family, plain.family
    assert isinstance(family, PixelCNN) and isinstance(squared, SquaredAutoEncoder)
    given = batches(run, data, "test", 2000)
    figures = mean(family, given)
    found: dict[str, Any] = {f"code_{name}": value for name, value in cost.items()}
    found["own_code_bits_per_dim"] = round(figures["bits_per_dim"], 4)
    found["other_code_bits_per_dim"] = round(figures["bits_per_dim_other_code"], 4)
    found["code_gap"] = round(figures["code_gap"], 4)
    found["squared_error"] = round(mean(squared, given)["squared_error"], 5)
    rows = {name: value[:ROWS] for name, value in given[0].items()}
    columns = [rows["target"], squared.reconstruct(rows), *_drawn(family, rows)]
    _sheet(place, "digits-decodings", ["truth", "squared error"], columns, images)
    return found


def styles(place: Place, source: str, side: str, weights: str, encoder_images: int, images: int) -> dict[str, Any]:
    """PixelCNN given StEP's style codes of shoes: likelihood with the own and with another picture's code; a sheet."""
    data = coded(place, source, side, weights, encoder_images)
    changes: dict[str, Any] = {"condition": "array", "channels": 3, "size": SHOE, "head": "mixture", "features": 48}
    changes |= {"embedding": 0}  # photographs repeat no exact levels, and the mixture reads them as numbers
    run, cost = train(place, "shoes-style", recipe_of("mnist", images, **changes), data, images)
    family = run.family
    assert isinstance(family, PixelCNN)
    given = batches(run, data, "val", 200)
    own = torch.cat([family.log_prob(b) for b in given])
    other = torch.cat([family.log_prob({**b, "code": b["code"].roll(1, 0)}) for b in given])
    bits = family.net.model.bits
    found: dict[str, Any] = {f"style_{name}": value for name, value in cost.items()}
    found["own_style_bits_per_dim"] = round(float(bits(own).mean()), 4)
    found["other_style_bits_per_dim"] = round(float(bits(other).mean()), 4)
    found["style_gap"] = round(float((bits(other) - bits(own)).mean()), 4)
    found["own_style_better"] = round(float((own > other).double().mean()), 3)
    rows = {name: value[:ROWS] for name, value in given[0].items()}
    _sheet(place, "shoes-by-style", ["whose style"], [rows["target"], *_drawn(family, rows)], images)
    return found


def _drawn(family: PixelCNN, rows: Batch) -> list[Tensor]:
    """`DRAWN` pictures of each row's condition."""
    with torch.no_grad():
        h = family.given(family.averaged, rows)
    count = len(rows["index"])
    return [
        family.draw_pictures(h, uniforms(family.net.model, count, seeded("decodings", number)))
        for number in range(DRAWN)
    ]


def _sheet(place: Place, name: str, first: list[str], columns: list[Tensor], images: int) -> None:
    cells = [[to_uint8(column[r]) for column in columns] for r in range(len(columns[0]))]
    names = [*first, *(f"drawn {i + 1}" for i in range(DRAWN))]
    place.tracker.picture(name, sheets.sheet(cells, (), names, name.replace("-", " "), cell=64), images)


def coded(place: Place, source: str, side: str, weights: str, images: int) -> str:
    """The shoes with a field `code`: their style codes by a StEP encoder trained on them for `images` anchors, each
    entry with mean 0 and deviation 1 over the training pictures."""
    data, step = place.path("shoes"), _encoder(images)
    shard.run(shard.Config(source=source, input_side=side, output=data, resize=SHOE, workers=0))  # type: ignore[arg-type]
    options = DescribeOptions(net=step.perceptual_net, layers=step.perceptual_layers)
    styles = place.path("shoes-descriptors")
    describe.run(describe.Config(data=data, output=styles, describe=options, weights=weights, workers=0))
    near = place.path("shoes-neighbours")
    neighbours.run(neighbours.Config(data=data, descriptors=styles, output=near, search=Exact(workers=0)))
    run, _ = train(
        place, "shoes-encoder", step, data, images, family="step", artifacts={"neighbours": near}, weights=weights
    )
    encoder = run.family
    assert isinstance(encoder, StEP)
    targets = {split: joined(batches(run, data, split, 10**9), "target") for split in shards.load(data)["splits"]}
    codes = {split: torch.cat([encoder.codes(part) for part in torch.split(x, 64)]) for split, x in targets.items()}
    centre, scale = codes["train"].mean(0), codes["train"].std(0).clamp_min(1e-6)
    listed = Path(place.path("shoes-listed"))
    listed.mkdir(parents=True, exist_ok=True)
    lines = []
    for split, pictures in targets.items():
        for number, (picture, code) in enumerate(zip(pictures, (codes[split] - centre) / scale, strict=True)):
            name = f"{split}-{number:04d}"
            (listed / f"{name}.png").write_bytes(decode.to_png(to_uint8(picture)))
            np.save(listed / f"{name}.npy", code.numpy())
            lines.append(json.dumps({"target": f"{name}.png", "code": f"{name}.npy", "split": split}))
    (listed / "samples.jsonl").write_text("\n".join(lines))
    output = place.path("shoes-coded")
    table = {"fields": "target=image,code=array"}
    shard.run(shard.Config(source=f"table:{listed / 'samples.jsonl'}", option=table, output=output, workers=0))
    return output


def _encoder(images: int) -> models.step.Config:
    return replace(
        models.step.PRESETS["demo"],
        size=SHOE,
        encoder_images=images,
        generator_images=0,
        finetune_images=0,
        mapper_epochs=0,
    )
