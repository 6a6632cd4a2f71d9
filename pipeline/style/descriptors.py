"""Images -> VGG-Gram style descriptors, shard by shard.

The style distance of StEP (Meshry et al., CVPR 2021; after Gatys et al., CVPR 2016),

    d(i, j) = sum_l w_l mean over C_l x C_l of (G_l^i - G_l^j)^2,    G_l = F F^T / (C_l H_l W_l),

is the squared Euclidean distance of one vector per image: for each layer the upper triangle of G_l, entries off the
diagonal times sqrt 2 (they stand for two), times sqrt(w_l) / C_l.

pipeline.vectors stores them; with a fitted sketch (pipeline.sketches) only its codes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from models.common import vgg
from pipeline.artifacts import artifact
from pipeline.data.shards import Damaged, DataSet
from pipeline.data.tensors import pictures_to_tensor
from pipeline.search.bounds import rounding
from pipeline.style import sketches
from pipeline.style.vectors import Vectors, bad_rows, group_rows, groups, schema

VERSION = 1
"""Of the algorithm; part of the request."""
MAX_PIXELS = 2048 * 2048
"""A larger image is described only with a size to shrink it to: activations take 256 bytes a pixel and layer."""

STEP_LAYERS = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")
"""After StEP's released code: conv1_2 ... conv5_2, all with weight 1."""


@dataclass(frozen=True)
class DescribeOptions:
    """All that the numbers depend on beside weights and data set."""

    net: vgg.Name = "vgg16"
    layers: tuple[str, ...] = STEP_LAYERS
    layer_weights: tuple[float, ...] = ()
    """One per layer; empty: all 1."""
    preprocessing: vgg.Preprocessing = "imagenet"
    pooling: vgg.Pooling = "max"
    field: str = "target"
    size: int = 0
    """Shortest side after a bicubic resize, then the centre square of it; 0: images as they are (Grams are means over
    positions, so images of different sizes can be compared)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the network; Grams are always summed in float32."""
    batch: int = 16
    """Images per forward; hashed, as the last bits depend on it."""

    def __post_init__(self) -> None:
        # On the command line the layers may be one word: relu1_2,relu2_2
        object.__setattr__(self, "layers", tuple(name for word in self.layers for name in word.split(",")))
        if self.layer_weights and len(self.layer_weights) != len(self.layers):
            raise ValueError(f"--layer-weights: {len(self.layer_weights)} values for {len(self.layers)} layers")
        if any(not 0 < w < float("inf") for w in self.layer_weights):
            raise ValueError(f"--layer-weights {self.layer_weights}: give positive numbers, leave out unwanted layers")
        if self.batch < 1 or self.size < 0:
            raise ValueError(f"--batch {self.batch}, --size {self.size}: at least 1 and 0")


class Describer:
    """Images -> style vectors, with one network, which moves to `device`."""

    def __init__(
        self, net: vgg.VGG, weights: tuple[float, ...] = (), precision: str = "fp32", device: str = "cpu"
    ) -> None:
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        self.device = torch.device(device)
        # Channels last is faster on the CPU in both precisions, most of all in bfloat16.
        self.net = net.eval().to(self.device)
        self.net.features.to(self.dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.places: list[Tensor] = []  # per layer, int64: flat positions of the upper triangle
        self.scales: list[Tensor] = []
        for layer, weight in zip(net.layers, weights or (1.0,) * len(net.layers), strict=True):
            c = vgg.channels(net.name, layer)
            rows, columns = torch.triu_indices(c, c)
            scale = torch.where(rows == columns, 1.0, 2.0).double().sqrt() * weight**0.5 / c
            self.places.append((rows * c + columns).to(self.device))
            self.scales.append(scale.float().to(self.device))
        self.dimension = sum(len(p) for p in self.places)
        self.least = 2 ** max(int(layer[4]) - 1 for layer in net.layers)
        """Smallest side that the deepest layer can be computed of."""

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """RGB in [-1, 1] -> float32 vectors whose squared Euclidean distance is the style distance, on the device."""
        x = x.to(self.device).contiguous(memory_format=torch.channels_last)
        out = torch.empty(len(x), self.dimension, device=self.device)
        start = 0
        with self._full_precision():
            for f, places, scales in zip(self.net(x).values(), self.places, self.scales, strict=True):
                g = self._gram(f).flatten(1)  # B C*C
                stop = start + len(places)
                torch.mul(g[:, places], scales, out=out[:, start:stop])
                start = stop
        return out

    def _gram(self, f: Tensor) -> Tensor:
        if f.device.type == "cpu" or f.dtype == torch.float32:
            return vgg.gram(f.float())
        # Products of bfloat16 numbers are exact in float32: a GPU's matrix units take them as they are.
        flat = f.permute(0, 2, 3, 1).flatten(1, 2)  # B HW C: no copy
        return torch.bmm(flat.transpose(1, 2), flat, out_dtype=torch.float32) / f[0].numel()

    @contextmanager
    def _full_precision(self) -> Iterator[None]:
        """float32 convolutions are not rounded to TF32, as cuDNN's usually are; nor are products."""
        on_gpu = self.device.type == "cuda"
        flags = torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if on_gpu else nullcontext()
        with rounding("fp32"), flags:
            yield


def prepare(image: np.ndarray, size: int, least: int) -> np.ndarray:
    """uint8 H W 3, resized and cropped as `DescribeOptions.size` says.

    Raises:
        ValueError: too small for the deepest layer, or too large to be taken as it is.
    """
    h, w = image.shape[:2]
    if size:
        scale = size / min(h, w)
        new = (max(size, round(w * scale)), max(size, round(h * scale)))
        if new != (w, h):
            image = np.asarray(Image.fromarray(image).resize(new, Image.Resampling.BICUBIC))
        top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
        image = image[top : top + size, left : left + size]
    h, w = image.shape[:2]
    if min(h, w) < least:
        raise ValueError(f"{w} x {h} pixels: the deepest layer needs sides of {least} (--size can enlarge)")
    if h * w > MAX_PIXELS:
        raise ValueError(f"{w} x {h} pixels: more than {MAX_PIXELS}; shrink with --size")
    return image


def _vectors(
    data: DataSet, shard: int, describer: Describer, options: DescribeOptions, seconds: dict[str, float]
) -> Iterator[tuple[str, np.ndarray | None, str]]:
    """(key, vector or None, reason) of the shard's images in order. A batch is a run of images of equal size."""

    def describe() -> Iterator[tuple[str, np.ndarray | None, str]]:
        if not waiting:
            return
        began = time.perf_counter()
        found = describer(pictures_to_tensor([image for _, image in waiting])).cpu().numpy()
        seconds["computing"] += time.perf_counter() - began
        if not np.isfinite(found).all():
            raise ValueError(f"--weights: style vectors from sample {waiting[0][0]} on are not finite")
        for (key, _), vector in zip(waiting, found, strict=True):
            yield key, vector, ""
        waiting.clear()

    waiting: list[tuple[str, np.ndarray]] = []
    for i in data.shard_rows(shard):
        began = time.perf_counter()
        image, reason = None, ""
        try:
            image = prepare(data.image(i, options.field), options.size, describer.least)
        except Damaged:
            raise
        except ValueError as error:
            reason = str(error)
        seconds["reading"] += time.perf_counter() - began
        full = len(waiting) == options.batch
        if waiting and (image is None or full or image.shape != waiting[0][1].shape or _crowded(waiting, options)):
            yield from describe()
        if image is None:
            yield data.keys[i], None, reason
        else:
            waiting.append((data.keys[i], image))
    yield from describe()


def _crowded(waiting: list[tuple[str, np.ndarray]], options: DescribeOptions) -> bool:
    """Whether one more image would pass the pixels of a full batch of 256 x 256: memory is bounded by pixels."""
    h, w = waiting[0][1].shape[:2]
    return bool((len(waiting) + 1) * h * w > options.batch * 256 * 256)


def sketched(
    rows: Iterator[tuple[str, np.ndarray | None, str]], sketch: sketches.Sketch
) -> Iterator[tuple[str, np.ndarray | None, str]]:
    """The same with codes for vectors. Some are coded together, as the directions are much to read for each."""
    while held := list(islice(rows, group_rows(sketch.basis.shape[1]))):
        vectors = [vector for _, vector, _ in held if vector is not None]
        codes = iter(sketch(np.stack(vectors)) if vectors else ())
        for key, vector, reason in held:
            yield key, None if vector is None else next(codes), reason


def shard_describer(
    root: str,
    split: str,
    folder: str,
    options: DescribeOptions,
    net: vgg.VGG,
    sketch_folder: str = "",
    device: str = "cpu",
) -> Callable[[int], dict[str, Any]]:
    """For `pool.each`: describe one shard, publish its part, return counts and seconds."""
    data = DataSet(root, split)
    describer = Describer(net, options.layer_weights, options.precision, device)
    sketch = sketches.load(sketch_folder)[0] if sketch_folder else None
    form = (describer.dimension, "<f4") if sketch is None else (sketch.codec.bytes, "uint8")

    def work(shard: int) -> dict[str, Any]:
        began = time.perf_counter()
        seconds = {"reading": 0.0, "computing": 0.0}
        rows = _vectors(data, shard, describer, options, seconds)
        rows = rows if sketch is None else sketched(rows, sketch)
        artifact.publish_rows(folder, shard, schema(*form), groups(rows, *form))
        spent = time.perf_counter() - began
        writing = spent - sum(seconds.values())
        return {"part": shard, "images": len(data.shard_rows(shard)), "seconds": spent, **seconds, "writing": writing}

    return work


def part_coder(source: str, folder: str, sketch_folder: str) -> Callable[[int], dict[str, Any]]:
    """For `pool.each`: code the exact vectors of one part of `source`, publish it in `folder`."""
    vectors, (sketch, _) = Vectors(source), sketches.load(sketch_folder)
    form = (sketch.codec.bytes, "uint8")

    def work(part: int) -> dict[str, Any]:
        began = time.perf_counter()
        errors = dict(bad_rows(source, range(part, part + 1)))
        rows = (
            (key, vector if good else None, errors.get(key, ""))
            for keys, some, valid in vectors.groups(part)
            for key, vector, good in zip(keys, some, valid, strict=True)
        )
        artifact.publish_rows(folder, part, schema(*form), groups(sketched(rows, sketch), *form))
        return {"part": part, "images": vectors.part_rows[part], "seconds": time.perf_counter() - began}

    return work


def request(data: DataSet, weights: str, options: DescribeOptions) -> tuple[dict[str, Any], dict[str, Any]]:
    """The artifact's inputs and options."""
    inputs = {"dataset": data.fingerprint, "split": data.split, "field": options.field, "weights": weights}
    return inputs, {k: v for k, v in asdict(options).items() if k != "field"}


def check(card: artifact.Card, data: DataSet, folder: str) -> None:
    """Raises ValueError where the descriptors are of another data set or split."""
    for what, wanted in (("dataset", data.fingerprint), ("split", data.split)):
        if card["inputs"][what] != wanted:
            raise ValueError(
                f"--descriptors {folder} are of another {what} ({card['inputs'][what]}) than {data.root} ({wanted}): "
                "run jobs.describe on this one"
            )
