"""Networks that an evaluation trains once and keeps, with what they were trained on; another one is refused."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from models.common.vgg import VGG
from pipeline.artifacts import storage
from pipeline.runs import checkpoint

Facts = dict[str, Any]
REMEMBERED = 1 << 28
"""Bytes of activations that are kept."""


class Remembered:
    """A VGG that keeps the activations of the latest pictures: a sample is compared with the truth, with its neighbours
    and with all, and goes through the network once."""

    def __init__(self, vgg: VGG, most: int = REMEMBERED) -> None:
        """`most`: bytes of activations that are kept; those of the latest call stay in any case."""
        self.vgg, self.most = vgg, most
        self.name: str = vgg.name
        self.layers = vgg.layers
        self._kept: OrderedDict[bytes, dict[str, Tensor]] = OrderedDict()
        self._bytes = 0

    def __call__(self, images: Tensor, /) -> dict[str, Tensor]:
        """`B 3 H W` -> layer -> activations, as the VGG's."""
        keys = [hashlib.sha256(image.contiguous().numpy().tobytes()).digest() for image in images]
        new = {key: i for i, key in enumerate(keys) if key not in self._kept}
        if new:
            out = self.vgg(images[list(new.values())])
            for row, key in enumerate(new):
                self._kept[key] = {layer: value[row].clone() for layer, value in out.items()}
                self._bytes += _size(self._kept[key])
        found = [self._kept[key] for key in keys]
        while self._bytes > self.most and len(self._kept) > len(images):
            self._bytes -= _size(self._kept.popitem(last=False)[1])
        return {layer: torch.stack([one[layer] for one in found]) for layer in self.layers}


def _size(activations: dict[str, Tensor]) -> int:
    return sum(value.nbytes for value in activations.values())


def keep(path: str, name: str, make: Callable[[], tuple[nn.Module, Facts]]) -> None:
    """Make the network and save it in `path` (a .pt file) beside its facts (.json), unless it is there."""
    if not storage.exists(_marker(path)):
        net, facts = make()
        checkpoint.publish(path.removesuffix(".pt"), {name: net.state_dict()}, facts)


def there(path: str, name: str) -> None:
    """Raises ValueError: no network was kept in `path`."""
    if not storage.exists(_marker(path)):
        raise ValueError(f"--{name} {path}: none is there; name the {name}.pt of an evaluation")


def load(path: str, name: str, wanted: Facts, remedy: str) -> tuple[dict[str, Tensor], Facts]:
    """(state dict, facts) of the one in `path`.

    Raises:
        ValueError: its facts differ from those wanted; the message names each difference.
    """
    facts: Facts = storage.read_json(_marker(path))
    if different := [f"{k} is {facts.get(k)} there, {v} wanted" for k, v in wanted.items() if facts.get(k) != v]:
        raise ValueError(f"{path} is another {name}: {'; '.join(different)}. {remedy}")
    state: dict[str, Tensor] = checkpoint.read(path)[name]
    return state, facts


def _marker(path: str) -> str:
    return path.removesuffix(".pt") + ".json"
