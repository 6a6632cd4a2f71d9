"""LPIPS: Zhang, Isola, Efros, Shechtman & Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual
Metric", CVPR 2018, eq. 1. https://arxiv.org/abs/1801.03924

    d(x, y) = sum_l mean_hw sum_c w_lc (f_l(x) - f_l(y))^2,   f_l: activations of unit length over the channels

The backbones have torchvision's state-dict names, the linear layers those of the official files, so both load as they
are. Version 0.0 feeds images in [-1, 1] to the backbone as they are; 0.1 scales them first and has other weights: its
numbers are more than twice as large, so the version is part of the metric's name. The numbers are LPIPS only with the
very weights that the linear layers were fitted to, which is known by their checksums: from other weights the metric
carries another name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

Net = Literal["alex", "vgg", "squeeze"]
Version = Literal["0.0", "0.1"]

SMALLEST = 32
"""Pixels: below, the deepest activations have no place left."""
TAPS: dict[str, tuple[int, ...]] = {
    "alex": (1, 4, 7, 9, 11),
    "vgg": (3, 8, 15, 22, 29),
    "squeeze": (1, 4, 7, 9, 10, 11, 12),
}
"""Positions in `features` whose outputs are compared (after ReLU)."""
WIDTHS: dict[str, tuple[int, ...]] = {
    "alex": (64, 192, 384, 256, 256),
    "vgg": (64, 128, 256, 512, 512),
    "squeeze": (64, 128, 256, 384, 384, 512, 512),
}
"""Their channels."""
BACKBONES: dict[str, tuple[str, ...]] = {
    "alex": ("alexnet-owt-7be5be79.pth", "alexnet-owt-4df8aa71.pth"),
    "vgg": ("vgg16-397923af.pth",),
    "squeeze": ("squeezenet1_1-b8a52dc0.pth", "squeezenet1_1-f364aa15.pth"),
}
"""torchvision's files; the eight digits begin the file's sha256. The second of a net is an older packaging."""
LINEAR: dict[tuple[str, str], str] = {
    ("0.0", "alex"): "18720f55913d0af8",
    ("0.0", "squeeze"): "c27abd3a0145541b",
    ("0.0", "vgg"): "b9e4236260c3dd98",
    ("0.1", "alex"): "df73285e35b22355",
    ("0.1", "squeeze"): "4a5350f23600cb79",
    ("0.1", "vgg"): "a78928a0af1e5f0f",
}
"""First 16 digits of the official linear layers' sha256."""
BACKBONE_HOME = "https://download.pytorch.org/models/"
LINEAR_HOME = "https://github.com/richzhang/PerceptualSimilarity/tree/master/lpips/weights"


class Fire(nn.Module):
    """SqueezeNet's block (Iandola et al. 2016): 1x1 down, then 1x1 and 3x3 side by side, ReLU after each."""

    def __init__(self, before: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(before, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()


def _alex() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    ]  # fmt: skip


def _vgg() -> list[nn.Module]:
    parts: list[nn.Module] = []
    before = 3
    for block, (width, depth) in enumerate(zip((64, 128, 256, 512, 512), (2, 2, 3, 3, 3), strict=True)):
        if block:
            parts.append(nn.MaxPool2d(2))
        for _ in range(depth):
            parts += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
    return parts


def squeezenet() -> list[nn.Module]:
    """The `features` of SqueezeNet 1.1, in torchvision's order."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return [
        nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), pool(),
        Fire(64, 16, 64), Fire(128, 16, 64), pool(),
        Fire(128, 32, 128), Fire(256, 32, 128), pool(),
        Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
    ]  # fmt: skip


class LPIPS(nn.Module):
    """The distance of `net` with the linear layers of `version`. Weights are drawn at random until `take`; `open_lpips`
    reads them from files. Frozen and in evaluation mode (the official dropout is for fitting the linear layers)."""

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Net, version: Version) -> None:
        """Raises ValueError: no such net or version."""
        super().__init__()
        if net not in get_args(Net) or version not in get_args(Version):
            raise ValueError(f"LPIPS {net} {version}: nets are {get_args(Net)}, versions {get_args(Version)}")
        self.net, self.version = net, version
        self.name = f"uncalibrated_{net}_v{version}"
        """The metric's name: `lpips_v0.1_alex` with the official weights only."""
        self.features = nn.Sequential(*{"alex": _alex, "vgg": _vgg, "squeeze": squeezenet}[net]())
        for i, width in enumerate(WIDTHS[net]):
            self.register_buffer(f"weight{i}", torch.ones(width))
        scaled = version == "0.1"
        shift = (-0.030, -0.088, -0.188) if scaled else (0.0, 0.0, 0.0)
        scale = (0.458, 0.448, 0.450) if scaled else (1.0, 1.0, 1.0)
        self.register_buffer("shift", torch.tensor(shift).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def take(self, backbone: Mapping[str, Tensor], linear: Mapping[str, Tensor]) -> LPIPS:
        """Load both state dicts (a classifier in the backbone's is left aside).

        Raises:
            ValueError: a tensor is missing or of another shape; a linear weight is negative.
        """
        for key, mine in self.features.state_dict(prefix="features.").items():
            there = backbone.get(key)
            if there is None or there.shape != mine.shape:
                found = "is missing" if there is None else f"has shape {tuple(there.shape)}"
                raise ValueError(f"LPIPS {self.net}: the backbone's {key} {found}, wanted {tuple(mine.shape)}")
            mine.copy_(there)
        for i, width in enumerate(WIDTHS[self.net]):
            key = f"lin{i}.model.1.weight"
            row = linear.get(key)
            if row is None or row.shape != (1, width, 1, 1) or bool((row < 0).any()):
                raise ValueError(f"LPIPS {self.net} {self.version}: linear layers want {key}, (1, {width}, 1, 1), >= 0")
            self.get_buffer(f"weight{i}").copy_(row.view(-1))
        return self

    def activations(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The compared layers of images in [-1, 1], each `B C H W`, of unit length over C (0 stays 0)."""
        if min(x.shape[2:]) < SMALLEST:
            raise ValueError(f"LPIPS needs images of at least {SMALLEST} pixels, got {x.shape[2]} x {x.shape[3]}")
        x = (x - self.shift) / self.scale
        out = []
        for i, part in enumerate(self.features):
            x = part(x)
            if i in TAPS[self.net]:
                out.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return out

    def forward(self, x: Float[Tensor, "b 3 h w"], y: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """The distance of each pair; images in [-1, 1]."""
        total = x.new_zeros(len(x))
        for i, (a, b) in enumerate(zip(self.activations(x), self.activations(y), strict=True)):
            weighted = (a - b).square() * self.get_buffer(f"weight{i}").view(1, -1, 1, 1)
            total = total + weighted.sum(1).mean((1, 2))  # B C H W -> B
        return total


def open_lpips(net: Net, version: Version, backbone: str, linear: str) -> LPIPS:
    """LPIPS from two local files: torchvision's checkpoint of the backbone and the official linear layers.

    With other weights than those (known by sha256) the result is another metric and is named so:
    `uncalibrated_NET_vVERSION_` and the first digits of both files' sha256.

    Raises:
        ValueError: a file is missing (the message names it and says where to get it), or is not what it should be.
    """
    model = LPIPS(net, version)
    home = f"{BACKBONE_HOME}{BACKBONES[net][0]}"
    state, digest = _read(backbone, f"LPIPS needs the backbone {BACKBONES[net][0]}", home)
    rows, rows_digest = _read(linear, f"LPIPS needs the linear layers v{version}/{net}.pth", LINEAR_HOME)
    model.take(state, rows)
    official = any(digest[:8] == file[-12:-4] for file in BACKBONES[net])
    if official and rows_digest.startswith(LINEAR[version, net]):
        model.name = f"lpips_v{version}_{net}"
    else:
        model.name = f"uncalibrated_{net}_v{version}_{digest[:8]}_{rows_digest[:8]}"
    return model


def _read(path: str, need: str, home: str) -> tuple[dict[str, Tensor], str]:
    if not Path(path).is_file():
        raise ValueError(f"{need}: there is no file {path}; get it from {home}")
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises a dozen different types
        raise ValueError(f"{need}: {path} is no file of torch.save that holds tensors; get it from {home}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{need}: {path} holds a {type(state).__name__}, not a state dict; get it from {home}")
    return state, digest
