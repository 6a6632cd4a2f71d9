"""Digits: 8-bit likelihood, samples by class that a classifier of real digits judges, binarised digits in nats."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from jobs import likelihood, shard
from jobs.study.pixels.runs import Place, batches, recipe_of, train
from models.common.seeds import seeded
from models.family import Batch
from models.pixelcnn import PixelCNN, between
from models.pixelcnn.encoder import Encoder
from models.pixelcnn.sampling import uniforms
from pipeline.artifacts import storage
from pipeline.data.sources import idx
from pipeline.data.tensors import to_uint8
from pipeline.tracking import sheets

CLASSES = 10
EACH = 50
"""Samples of a class."""


def sharded(place: Place, source: str, held_out: int) -> str:
    """The digits as a data set."""
    path, option = place.path("digits"), {"held_out": str(held_out)}
    shard.run(shard.Config(source=f"idx:{source}", option=option, output=path, workers=0, shard_size=5000))
    return path


def grey(place: Place, source: str, data: str, images: int, judge_images: int) -> dict[str, Any]:
    """One network by class: likelihood of the test set, and its samples."""
    run, cost = train(place, "digits-class", recipe_of("mnist-class", images), data, images)
    family = run.family
    assert isinstance(family, PixelCNN)
    card = _likelihood(place, "digits-class", data)
    found: dict[str, Any] = {f"grey_{name}": value for name, value in cost.items()}
    found["grey_bits_per_dim"] = round(card["bits_per_dimension"], 4)
    given = batches(run, data, "test", 500)
    found["grey_class_gain"] = round(float(torch.cat([_class_gain(family, b) for b in given]).mean()), 4)
    judge = Judge(source, judge_images)
    drawn = family.draw_pictures(
        torch.eye(CLASSES).repeat_interleave(EACH, 0), uniforms(family.net.model, CLASSES * EACH, seeded("samples"))
    )
    by_class = torch.arange(CLASSES).repeat_interleave(EACH)
    found["judge_accuracy"] = round(100 * judge.accuracy(*_pictures(source, "test")), 2)
    found["class_samples_right"] = round(100 * judge.accuracy(drawn, by_class), 2)
    cells = [[to_uint8(x) for x in lot[:12]] for lot in torch.split(drawn, EACH)]
    names = [str(c) for c in range(CLASSES)]
    place.tracker.picture("digits-by-class", sheets.sheet(cells, names, (), "Samples by class", cell=56), images)
    walk = torch.cat([between(torch.eye(CLASSES)[a], torch.eye(CLASSES)[(a + 1) % CLASSES], 9) for a in range(4)])
    same = uniforms(family.net.model, 4, seeded("walk")).repeat_interleave(9, 0)
    cells = [[to_uint8(x) for x in lot] for lot in torch.split(family.draw_pictures(walk, same), 9)]
    steps = [f"{t / 8:.2f}" for t in range(9)]
    sheet = sheets.sheet(cells, [f"{a} to {a + 1}" for a in range(4)], steps, "Between two classes", cell=56)
    place.tracker.picture("digits-between", sheet, images)
    return found


def binary(place: Place, data: str, images: int) -> dict[str, Any]:
    """Nats of the binarised test set, each picture binarised once."""
    _, cost = train(place, "digits-binary", recipe_of("mnist-binary", images), data, images)
    card = _likelihood(place, "digits-binary", data)
    return {"binary_nats": round(card["nats"], 2)} | {f"binary_{name}": value for name, value in cost.items()}


def _likelihood(place: Place, name: str, data: str) -> dict[str, Any]:
    config = likelihood.Config(
        run=place.path(name), data=data, output=place.path(f"{name}-likelihood"), split="test", batch=50, workers=0
    )
    notes: dict[str, Any] = likelihood.run(config)["notes"]
    return notes


def _class_gain(family: PixelCNN, batch: Batch) -> Tensor:
    """Bits per dimension that the class saves, beside p(x), the mean of p(x | c) over the classes. At most the class's
    own bits, log2(10), over the dimensions."""
    rows = len(batch["index"])
    nats = torch.stack([family.log_prob({**batch, "class": torch.full((rows,), c)}) for c in range(CLASSES)])
    own = nats[batch["class"], torch.arange(rows)]
    bits = family.net.model.bits
    found: Tensor = bits(torch.logsumexp(nats, 0) - math.log(CLASSES)) - bits(own)
    return found


def _pictures(source: str, split: str) -> tuple[Tensor, Tensor]:
    pictures, classes = idx.arrays(storage.absolute(source, "--mnist"), split)
    return torch.from_numpy(pictures)[:, None].float() / 127.5 - 1, torch.from_numpy(classes)


class Judge:
    """A small convolutional classifier of real digits: what class a sample looks like."""

    def __init__(self, source: str, images: int, batch: int = 64) -> None:
        """`images`: pictures seen."""
        pictures, classes = _pictures(source, "train")
        self.net = Encoder(1, 16, CLASSES, (idx.SIZE, idx.SIZE), seeded("judge"))
        adam = torch.optim.Adam(self.net.parameters(), lr=1e-3, fused=True)
        order = torch.randint(len(pictures), (images // batch, batch), generator=seeded("judge's order"))
        for number, rows in enumerate(order):
            adam.param_groups[0]["lr"] = 2e-3 * (1 - number / len(order))
            F.cross_entropy(self.net(pictures[rows]), classes[rows]).backward()  # type: ignore[no-untyped-call]
            adam.step()
            adam.zero_grad()

    @torch.no_grad()
    def accuracy(self, pictures: Tensor, classes: Tensor) -> float:
        """Share that is taken for its class."""
        right = [
            self.net(p).argmax(1) == c
            for p, c in zip(torch.split(pictures, 200), torch.split(classes, 200), strict=True)
        ]
        return float(torch.cat(right).double().mean())
