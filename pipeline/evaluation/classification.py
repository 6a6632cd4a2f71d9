"""Samples judged by a classifier trained here: Frechet distance, coverage, the Inception score and classes, of its own
features and classes. It is trained on a data set's labelled pictures and measured on held-out ones first; names say
which one it was. Its figures are no FID and no Inception score of the literature.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.common.classifier import Classifier
from models.common.seeds import seeded
from models.family import Stream
from pipeline.data.images import Images
from pipeline.data.shards import facts_of
from pipeline.evaluation import coverage, metrics
from pipeline.evaluation.networks import Facts, keep, load, there
from pipeline.training.feed import Feed, Sources

NAME = "classifier"
VERSION = 1
BATCH = 100
RATE = 2e-2
"""Adam's first rate; it falls to 0 along half a cosine. High: equalised weights are of size 1."""
SPLITS = 10
"""Of the Inception score."""
PART = 250
"""Pictures that go through the network at once."""
SIDE = 32
"""Pixels: pictures whose shorter side is longer are read at this size, so that training takes a minute."""


def shrunk(pictures: Tensor) -> Tensor:
    """Pictures `B C H W` with a shorter side of at most `SIDE`, by the mean over each new pixel's area."""
    short = min(pictures.shape[2:])
    if short <= SIDE:
        return pictures
    height, width = (round(side * SIDE / short) for side in pictures.shape[2:])
    return F.interpolate(pictures, (height, width), mode="area")


class Reader(NamedTuple):
    """A classifier with the first letters of its weights' sha256, which figures are named after.

    Of pictures with more channels than it has (stacked digits for one of grey digits), it reads each channel: features
    are joined, and classes are the numbers that the channels' classes spell, the first channel first.
    """

    net: Classifier
    mark: str

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        """`N F`.

        Raises:
            ValueError: it has more channels than the pictures, or fewer but several.
        """
        channels = pictures.shape[1]
        if self.net.channels not in (1, channels):
            raise ValueError(f"--classifier: it reads {self.net.channels} channels, the pictures have {channels}")
        sides = torch.split(shrunk(pictures), self.net.channels, 1)
        parts = [[self.net.features(part) for part in torch.split(side, PART)] for side in sides]
        return torch.cat([torch.cat(side) for side in parts], 1)

    @torch.no_grad()
    def probabilities(self, features: Tensor) -> Tensor:
        """float64 `N K`, of features."""
        each = [self.net.classes_of(part).double().softmax(1) for part in torch.split(features, self.net.width, 1)]
        return reduce(lambda a, b: (a[:, :, None] * b[:, None, :]).flatten(1), each)


def kept(path: str, images: Images, frame: tuple[int, int], steps: int, seed: int) -> tuple[Reader, Facts]:
    """The classifier kept in `path` (a .pt file), trained on the `target` and `class` of `images` if it is not there.

    Raises:
        ValueError: another one is there; the message names each difference.
    """
    data = images.data
    wanted: Facts = {"version": VERSION, "dataset": data.fingerprint, "split": data.split, "frame": list(frame)}
    wanted |= {"steps": steps, "seed": seed, "channels": images.specs["target"].channels}

    def make() -> tuple[Classifier, Facts]:
        classes = facts_of(data).classes("class")
        return train(images, classes, frame, steps, seed), {**wanted, "classes": classes}

    keep(path, NAME, make)
    return _load(path, wanted, "Remove it and its .json, or choose another --output")


def given(path: str, frame: tuple[int, int]) -> tuple[Reader, Facts]:
    """One that an evaluation kept in `path`, of any data set.

    Raises:
        ValueError: there is none, or it was trained in another size.
    """
    there(path, NAME)
    return _load(path, {"version": VERSION, "frame": list(frame)}, "Leave --classifier out to train one")


def _load(path: str, wanted: Facts, remedy: str) -> tuple[Reader, Facts]:
    state, facts = load(path, NAME, wanted, remedy)
    net = Classifier(facts["channels"], facts["classes"], seeded(0))
    net.load_state_dict(state)
    return Reader(net.eval(), facts["sha256"][:8]), facts


def train(images: Images, classes: int, frame: tuple[int, int], steps: int, seed: int) -> Classifier:
    """Cross-entropy, Adam, batches of 100 labelled pictures as they are. A function of the data set and the arguments
    alone (on one machine with one number of threads)."""
    net = Classifier(images.specs["target"].channels, classes, seeded(seed, NAME))
    adam = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    known = sum(y >= 0 for y in images.data.column("class"))
    batch = min(BATCH, known)
    stream = Stream(batch, ("target", "class"), keep=lambda row: bool(row["class_value"] >= 0))
    feed = Feed(Sources(images), {"pictures": stream}, NAME, seed, frame)
    try:
        for _ in range(steps):
            drawn = feed.draw("pictures")
            loss = F.cross_entropy(net(shrunk(drawn["target"])), drawn["class"])
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            schedule.step()
    finally:
        feed.close()
    return net.eval()


def accuracy(reader: Reader, pictures: Tensor, y: Tensor) -> float:
    """Share of the pictures with a known class (not -1) that are read as theirs; NaN where none has one."""
    known = y >= 0
    read = reader.probabilities(reader.features(pictures[known])).argmax(1)
    return float((read == y[known]).double().mean())


def figures(reader: Reader, real: Tensor, fake: Tensor, asked: Tensor | None) -> dict[str, float]:
    """Of as many fakes as real pictures; `asked`: the class that each fake was asked for. Fakes are read with as many
    channels as the real pictures: grey ones (the channels' mean) or three alike.

    `frechet`: of the features. `precision`, `recall` (k = 3), `density`, `coverage` (k = 5, of few pictures 3): of the
    features. `inception_score` over 10 splits. `classes_captured`: classes that some fake is read as;
    `classes_reverse_kl`: KL(their shares || all alike), nats. `asked`: share of the fakes read as the class asked for.
    """
    if fake.shape[1] != real.shape[1]:
        fake = fake.mean(1, keepdim=True).expand(-1, real.shape[1], -1, -1)
    seen = reader.features(real), reader.features(fake)
    read = reader.probabilities(seen[1])
    counts = np.bincount(read.argmax(1).numpy(), minlength=read.shape[1])
    k = 5 if len(real) > 5 else 3
    precision, recall = metrics.precision_recall(*seen)
    density, covered = coverage.density_coverage(*seen, k)
    splits = min(SPLITS, len(fake))
    found = {
        "frechet": metrics.frechet_distance(*seen),
        "precision_k3": precision,
        "recall_k3": recall,
        f"density_k{k}": density,
        f"coverage_k{k}": covered,
        f"inception_score_{splits}": coverage.inception_score(read, splits)[0],
        "classes_captured": float((counts > 0).sum()),
        "classes_reverse_kl": coverage.reverse_kl(counts),
    }
    if asked is not None:
        found["asked"] = float((read.argmax(1) == asked).double().mean())
    return {f"{NAME}-{reader.mark}_{name}": value for name, value in found.items()}
