"""Can the labels be read back from a picture? A segmenter trained on the data set's own pairs, photograph to labels.

It is trained on the training split. It does not read photographs perfectly either, so it is measured on held-out
photographs first, and samples are compared with that. Its weights are saved with the fingerprint of the data set and
are refused for another one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from models.common.seeds import seeded
from models.common.segmenter import Segmenter
from models.family import Stream
from pipeline.artifacts.progress import follow
from pipeline.data.images import Images
from pipeline.data.shards import DataSet
from pipeline.evaluation.networks import Facts, keep, load, there
from pipeline.training.feed import Feed, Sources

NAME = "segmenter"
VERSION = 1
BATCH = 16
RATE = 6e-2
"""Adam's first rate; it falls to 0 along half a cosine. High: equalised weights are of size 1."""
JITTER = 0.1
"""Largest change of brightness, of contrast and of each colour's gain, as a share."""
LARGEST = 256
"""Label maps may have ids below this."""


def kept(path: str, data: DataSet, frame: tuple[int, int], steps: int, seed: int) -> tuple[Segmenter, Facts]:
    """The segmenter kept in `path` (a .pt file) with what it was trained on and how. Where there is none it is trained
    on `data` (labels as inputs, photographs as targets) for `steps` batches, and kept.

    Raises:
        ValueError: another one is there; the message names each difference.
    """
    wanted: Facts = {"steps": steps, "seed": seed, **_identity(data, frame)}

    def make() -> tuple[Segmenter, Facts]:
        images = Images(data)
        classes = count_classes(images)
        return train(images, classes, frame, steps, seed), {**wanted, "classes": classes}

    keep(path, NAME, make)
    return _load(path, wanted, "Remove it and its .json, or choose another --output")


def given(path: str, data: DataSet, frame: tuple[int, int]) -> tuple[Segmenter, Facts]:
    """One that an evaluation kept in `path`, of any length and seed.

    Raises:
        ValueError: there is none, or it was trained on other data or in another size.
    """
    there(path, NAME)
    return _load(path, _identity(data, frame), "Leave --segmenter out to train one")


def _identity(data: DataSet, frame: tuple[int, int]) -> Facts:
    return {"version": VERSION, "dataset": data.fingerprint, "split": data.split, "frame": list(frame)}


def _load(path: str, wanted: Facts, remedy: str) -> tuple[Segmenter, Facts]:
    state, facts = load(path, NAME, wanted, remedy)
    net = Segmenter(facts["classes"], seeded(0))
    net.load_state_dict(state)
    return net.eval(), facts


def count_classes(images: Images) -> int:
    """One more than the largest id: of the palette where label maps are painted, else of all the split's label maps.

    Raises:
        ValueError: ids of `LARGEST` or above.
    """
    palette = images.data.fields["input"].palette
    if palette is not None:
        return len(palette.colours) + palette.other
    places = follow(range(len(images.data)), "count classes", unit="label maps")
    largest = max(int(images(i, "input").max()) for i in places)
    if largest >= LARGEST:
        raise ValueError(f"{images.data.root}: a label map has the id {largest}; the segmenter takes up to {LARGEST}")
    return largest + 1


def train(images: Images, classes: int, frame: tuple[int, int], steps: int, seed: int) -> Segmenter:
    """Cross-entropy over all pixels, Adam, batches of 16 random crops with flips and colour jitter. A function of the
    data set and the arguments alone (on one machine with one number of threads)."""
    net = Segmenter(classes, seeded(seed, "segmenter"))
    adam = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    feed = Feed(Sources(images), {"pairs": Stream(BATCH, ("input", "target"))}, "segmenter", seed, frame)
    try:
        for step in follow(range(steps), "train the segmenter", unit="steps"):
            batch = feed.draw("pairs")
            pictures, labels = augmented(batch["target"], batch["input"], seeded(seed, "segmenter", step))
            loss = F.cross_entropy(net(pictures), labels)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            schedule.step()
    finally:
        feed.close()
    return net.eval()


def augmented(
    pictures: Float[Tensor, "b 3 h w"], labels: Int[Tensor, "b h w"], generator: torch.Generator
) -> tuple[Float[Tensor, "b 3 h w"], Int[Tensor, "b h w"]]:
    """Half of the pairs mirrored left to right; the pictures' brightness, contrast and colours changed a little."""
    count = len(pictures)
    flipped = torch.rand(count, generator=generator) < 0.5
    pictures = torch.where(flipped[:, None, None, None], pictures.flip(3), pictures)
    labels = torch.where(flipped[:, None, None], labels.flip(2), labels)
    contrast, *gains = 1 + JITTER * (2 * torch.rand(4, count, generator=generator) - 1)
    shift = JITTER * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1)
    scale = contrast[:, None, None, None] * torch.stack(gains, 1)[..., None, None]
    return pictures * scale + shift, labels


@torch.no_grad()
def read_labels(net: Segmenter, pictures: Float[Tensor, "n 3 h w"]) -> Int[Tensor, "n h w"]:
    """The likeliest class of each pixel."""
    return torch.cat([net(part).argmax(1) for part in torch.split(pictures, BATCH)])
