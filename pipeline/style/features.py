"""Features of pictures in place of pixels: a data set -> the same samples with a grid of vectors and their mean.

The network is a VGG or SqueezeNet 1.1. A layer is max-pooled by `pool`: relu5_4 of VGG-19 and 2 at 448 pixels is its
last pooling, 14 x 14 x 512 (Nam et al., CVPR 2017). It is a source like any other: sharding it resumes, and gives the
same bytes for any number of workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from models.common import squeezenet, vgg
from models.common.squeezenet import SqueezeNet
from models.common.vgg import VGG, Preprocessing
from pipeline.data import decode, kinds
from pipeline.data.samples import Entry, Field, Reader
from pipeline.data.shards import DataSet
from pipeline.data.tensors import pictures_to_tensor
from pipeline.style.weights import Weights, load_squeezenet, load_weights

Network = VGG | SqueezeNet
MADE = ("grid", "vector")
"""The fields that are added."""
KEPT = 64
"""Pictures whose features a reader keeps; of 14 x 14 x 512, 0.4 MB each."""


@dataclass(frozen=True)
class FeatureOptions:
    """What is computed, and of what."""

    field: str = "image"
    """Field of the pictures."""
    net: Literal["vgg16", "vgg19", "squeezenet1_1"] = "vgg19"
    layer: str = "relu5_4"
    """Activations after ReLU; of SqueezeNet fire2 to fire9."""
    pool: int = 2
    """Max-pooled by so much, with as large steps; 1: not."""
    size: int = 448
    """Pictures are resized to this side, both sides alike (the aspect is not kept). Source: released code of VQA."""
    preprocessing: Preprocessing = "imagenet"
    """What the weights were trained for."""
    keep_images: bool = True
    """Whether the pictures stay beside their features, for sheets."""

    def __post_init__(self) -> None:
        if self.pool < 1:
            raise ValueError(f"--pool {self.pool}: give at least 1")
        if self.net == "squeezenet1_1":
            least = 32 * self.pool
            if self.layer not in squeezenet.LAYERS:
                raise ValueError(f"--layer {self.layer}: squeezenet1_1 has {', '.join(squeezenet.LAYERS)}")
        else:
            if self.layer not in vgg.table(self.net):
                raise ValueError(f"--layer {self.layer}: {self.net} has {', '.join(vgg.table(self.net))}")
            least = 2 ** (int(self.layer[4]) - 1) * self.pool
        if self.size < least:
            raise ValueError(
                f"--size {self.size}, --pool {self.pool}: {self.layer} pooled needs {least} pixels or more"
            )


def network(spec: str, options: FeatureOptions, sha256: str = "") -> tuple[Network, Weights]:
    """The network that the options name, with the weights that `spec` names.

    Raises:
        ValueError: as `pipeline.style.weights.load_weights`.
    """
    if options.net == "squeezenet1_1":
        return load_squeezenet(spec, options.layer, sha256)
    return load_weights(spec, options.net, (options.layer,), sha256, 0, options.preprocessing)


@torch.no_grad()
def grid(net: Network, pool: int, pictures: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b h w c"]:
    """The deepest layer's vectors."""
    found = list(net(pictures).values())[-1]
    return torch.nn.functional.max_pool2d(found, pool).permute(0, 2, 3, 1).contiguous()


@dataclass
class FeatureReader:
    """Reads a data set's members, and computes `grid` and `vector` (the grid's mean)."""

    root: str
    options: FeatureOptions
    net: Network
    members: dict[str, str]
    """Field -> its member in the data set."""
    _data: dict[str, DataSet] = field(default_factory=dict, repr=False)
    _kept: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __call__(self, path: str, member: str) -> bytes:
        """`path` is split/position."""
        split, _, number = path.partition("/")
        if split not in self._data:
            self._data[split] = DataSet(self.root, split)
        data, position = self._data[split], int(number)
        if member not in MADE:
            return data.member(position, self.members[member])
        found = self._grid(data, position)
        return kinds.named("array").write((found if member == "grid" else found.mean((0, 1))).numpy())

    def _grid(self, data: DataSet, position: int) -> Tensor:
        """`h w C`. The last `KEPT` are kept: both members, and other questions about the same picture, ask for them."""
        name = self.options.field
        sha256 = hashlib.sha256(data.member(position, self.members[name])).hexdigest()
        found = self._kept.pop(sha256, None)
        if found is None:
            picture = decode.stretch(data.image(position, name), self.options.size, self.options.size, False)
            found = grid(self.net, self.options.pool, pictures_to_tensor([picture]))[0]
        self._kept[sha256] = found  # at the end: the first one is the least recently used
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return found


class Features:
    """A finished data set with features: a source for `pipeline.data.sharding.shard`."""

    left_out: Sequence[str] = ()

    def __init__(self, root: str, splits: list[str], options: FeatureOptions, net: Network) -> None:
        """Raises ValueError: no such field of pictures, or fields of these names already."""
        self.data = {split: DataSet(root, split) for split in splits}
        self.root, self.options, self.net = root, options, net
        there = next(iter(self.data.values())).fields
        if options.field not in there or there[options.field].kind != "image" or there[options.field].half:
            raise ValueError(f"--field {options.field}: no whole pictures; {root} has {', '.join(there)}")
        if twice := set(MADE) & there.keys():
            raise ValueError(f"--data {root}: has a field {min(twice)} already")
        self.kept = {n: f for n, f in there.items() if options.keep_images or n != options.field}
        self.members = {name: f.member for name, f in there.items()}

    @property
    def fields(self) -> dict[str, Field]:
        kept = {n: Field(n, kind=f.kind, palette=f.palette, names=f.names) for n, f in self.kept.items()}
        return {**kept, "grid": Field("grid", kind="array"), "vector": Field("vector", kind="array")}

    def samples(self) -> dict[str, list[Entry]]:
        return {
            split: [
                Entry(key, dict.fromkeys(self.fields, f"{split}/{position}"), data.labels[position])
                for position, key in enumerate(data.keys)
            ]
            for split, data in self.data.items()
        }

    @property
    def reader(self) -> Reader:
        return FeatureReader(self.root, self.options, self.net, self.members)

    def described(self, weights: str) -> dict[str, Any]:
        """What the features are of, for the new data set's identity; `weights`: their identity."""
        prints = {split: data.fingerprint for split, data in self.data.items()}
        o = self.options
        made = {"net": o.net, "layer": o.layer, "pool": o.pool, "size": o.size, "preprocessing": o.preprocessing}
        kept = {"field": o.field, "keep_images": o.keep_images}
        return {"kind": "features", "dataset": min(prints.values()), "weights": weights, **made, **kept}
