"""Critics: a trunk with named heads, or an auto-encoder."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.gans.networks.layers import SLOPE, BatchNorm, Chain, Init, linear
from models.gans.terms import Heads, Random
from models.group import Group

ENERGY_EPS = 1e-12


class Headed(nn.Module):
    """Named heads over a trunk's features `B F`. Heads: `features`, and those given; `score` is B."""

    def __init__(self, trunk: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        """
        Args:
            trunk: `trunk(x, y, random) -> B F`.
            heads: `head(features)`: linear at their ends, neither a sigmoid nor a softmax.
        """
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(heads)

    def forward(self, x: Tensor, y: Tensor | None, random: Random) -> Heads:
        features = self.trunk(x, y, random)
        found = {name: head(features) for name, head in self.heads.items()}
        if "score" in found:
            found["score"] = found["score"][:, 0]
        # Losses in full precision under autocast.
        dtype = next(self.parameters()).dtype
        return {name: value.to(dtype) for name, value in {"features": features, **found}.items()}


class CodeHead(nn.Module):
    """infoGAN's Q: fully connected 128, batch norm, leaky ReLU, linear."""

    def __init__(self, width: int, outputs: int, generator: torch.Generator, group: Group, init: Init) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            linear(width, 128, generator, init),
            BatchNorm(128, group),
            nn.LeakyReLU(SLOPE),
            linear(128, outputs, generator, init),
        )

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.layers(features)
        return out


class AutoEncoder(nn.Module):
    """Energy: the distance between x and its reconstruction. Heads: `energy` B, `code` `B S`, `picture` as x.

    Nothing is detached: a fake moves the energy through its reconstruction as well as directly.
    """

    def __init__(self, encoder: Chain, decoder: nn.Module, error: str) -> None:
        """
        Args:
            error: `norm`, the Euclidean norm over the whole picture (EBGAN, whose margins are in these units), or
                `mean`, the mean absolute difference of a pixel (BEGAN, whose rate of k is for these).
        """
        super().__init__()
        assert error in ("norm", "mean")
        self.encoder, self.decoder, self.error = encoder, decoder, error

    def forward(self, x: Tensor, y: Tensor | None, random: Random) -> Heads:
        code = self.encoder(x, random)
        picture = self.decoder(code)
        apart = (picture - x).flatten(1)
        energy = (apart.square().sum(1) + ENERGY_EPS).sqrt() if self.error == "norm" else apart.abs().mean(1)
        return {"energy": energy, "code": code, "picture": picture}
