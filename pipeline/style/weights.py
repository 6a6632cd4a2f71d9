"""Finding, downloading and checking the weights of a VGG."""

from __future__ import annotations

import hashlib
import io
import os
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.common import vgg
from models.common.squeezenet import SqueezeNet
from models.family import PerceptualRecipe
from pipeline.artifacts import storage

URLS = {
    "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "vgg19": "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
}
"""torchvision's ImageNet checkpoints."""
TIMEOUT = 5.0
"""Seconds without an answer after which a download is given up."""


@dataclass(frozen=True)
class Weights:
    """Which weights a network has."""

    name: str
    """File name, or `random:<seed>`."""
    sha256: str
    """Of the file; empty for random weights."""
    random: bool

    @property
    def identity(self) -> str:
        """What requests hold: the hash, or `random:<seed>`."""
        return self.name if self.random else self.sha256

    def __str__(self) -> str:
        return f"RANDOM weights ({self.name})" if self.random else f"{self.name} (sha256 {self.sha256[:8]})"


def load_weights(
    spec: str,
    net: vgg.Name,
    layers: Sequence[str],
    sha256: str = "",
    seed: int = 0,
    preprocessing: vgg.Preprocessing = "imagenet",
    pooling: vgg.Pooling = "max",
    pools: int = 4,
) -> tuple[vgg.VGG, Weights]:
    """A VGG with the weights that `spec` names: a path (local, s3://), an http(s) URL, `torchvision` (its URL for this
    network) or `random` (seeded He initialisation; never chosen unless named).

    Raises:
        ValueError: not there, not reachable, of another hash, not a checkpoint, or without a wanted layer.
    """
    network = vgg.VGG(net, layers, preprocessing, pooling, pools)
    if spec == "random":
        if sha256:
            raise ValueError("--weights-sha256: random weights have no file; leave it out")
        return network.random(seed), Weights(f"random:{seed}", "", True)
    data, name = _fetch(URLS[net] if spec == "torchvision" else spec, sha256)
    there = hashlib.sha256(data).hexdigest()
    _compare(name, there, sha256)
    return network.load(_state(data, name)), Weights(name, there, False)


def load_squeezenet(spec: str, layer: str, sha256: str = "") -> tuple[SqueezeNet, Weights]:
    """SqueezeNet 1.1 to `layer` with the weights of a torchvision-format checkpoint: a path or a URL.

    Raises:
        ValueError: as `load_weights`.
    """
    network = SqueezeNet(layer)
    data, name = _fetch(spec, sha256)
    there = hashlib.sha256(data).hexdigest()
    _compare(name, there, sha256)
    return network.load(_state(data, name)), Weights(name, there, False)


def of_recipe(spec: str, recipe: PerceptualRecipe) -> tuple[vgg.VGG, Weights]:
    """The network that a recipe names, with the weights that `spec` names."""
    preprocessing, pooling = recipe.perceptual_preprocessing, recipe.perceptual_pooling
    net, layers = recipe.perceptual_net, recipe.perceptual_layers
    pools = recipe.perceptual_pools
    return load_weights(spec, net, layers, preprocessing=preprocessing, pooling=pooling, pools=pools)


def identity(spec: str) -> str:
    """What tells the weights that `spec` names from others, without loading them: the sha256 of a file; else `spec`
    itself, as a download is kept under its URL."""
    if spec in ("random", "torchvision") or spec.startswith(("http://", "https://")) or not storage.exists(spec):
        return spec
    return storage.sha256_file(spec)


def _compare(name: str, there: str, wanted: str) -> None:
    # torchvision writes the first digits of the hash into the name: vgg19-dcbb9e9d.pth
    suffix = re.search(r"-([0-9a-f]{8,64})\.pth?$", name)
    for start, source in ((wanted.lower(), "--weights-sha256"), (suffix[1] if suffix else "", "its name")):
        if start and not there.startswith(start):
            raise ValueError(f"--weights {name}: sha256 is {there}, {source} says {start}: damaged, or another file")


def _fetch(spec: str, sha256: str) -> tuple[bytes, str]:
    """Bytes and file name."""
    if not spec.startswith(("http://", "https://")):
        try:
            return storage.read(spec), spec.rsplit("/", 1)[-1]
        except (FileNotFoundError, IsADirectoryError) as error:
            raise ValueError(
                f"--weights {spec}: no such file; give a path or URL of a torchvision-format checkpoint, or name "
                "`random` (styles are then told apart less well)"
            ) from error
    name = spec.split("?")[0].rsplit("/", 1)[-1]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "variegate"
    # The URL's hash keeps files of one name from two places apart.
    kept = cache / f"{hashlib.sha256(spec.encode()).hexdigest()[:12]}-{name}"
    if kept.exists():
        data = kept.read_bytes()
        _compare(name, hashlib.sha256(data).hexdigest(), sha256)
        return data, name
    try:
        with urllib.request.urlopen(spec, timeout=TIMEOUT) as answer:
            data = answer.read()
            length = answer.headers.get("Content-Length")
    except (urllib.error.URLError, OSError) as error:
        raise ValueError(f"--weights {spec}: cannot be downloaded ({error}); give a path, or name `random`") from error
    if length is not None and len(data) != int(length):
        raise ValueError(f"--weights {spec}: the download ended after {len(data)} of {length} bytes; try again")
    _compare(name, hashlib.sha256(data).hexdigest(), sha256)  # nothing wrong is cached
    storage.publish(str(kept), data)
    return data, name


def _state(data: bytes, name: str) -> dict[str, Tensor]:
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # what is no pickle raises a dozen different types
        raise ValueError(f"--weights {name} is no file of torch.save that holds tensors alone") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"--weights {name} is no state dict (name -> tensor)")
    return state
