"""Normalisation as the translation papers use it: batch norm over the whole global batch, instance norm without
weights, or none. All are called with the features and `Live` (None: as the network is used, not trained)."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.common.layers import Live
from models.group import Group

Norm = Literal["batch", "instance", "none"]


class BatchNorm(nn.BatchNorm2d):
    """Batch norm (Ioffe & Szegedy, ICML 2015) with learned scale and shift.

    With `Live` the statistics are those of the batch: over all ranks of its group, or of each picture alone where it
    has no group. They enter the running ones only in training mode. Without it the running ones are used.
    """

    def forward(self, x: Float[Tensor, "b c h w"], live: Live | None = None) -> Float[Tensor, "b c h w"]:
        if live is None:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        rows = x.shape[0] * live.group.world if live.group else 1
        if rows * x.shape[2] * x.shape[3] == 1:
            raise ValueError(
                "batch norm sees one number a channel (batch 1 at 1 x 1) and would make it 0: "
                "give a larger --size or --batch, fewer levels, or --norm instance"
            )
        if live.group is None:
            return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        if not live.group.on:
            mean, variance = (self.running_mean, self.running_var) if self.training else (None, None)
            return F.batch_norm(x, mean, variance, self.weight, self.bias, True, self.momentum or 0.0, self.eps)
        return self._over_ranks(x, live.group)

    def _over_ranks(self, x: Float[Tensor, "b c h w"], group: Group) -> Float[Tensor, "b c h w"]:
        """Two passes (mean, then squared deviations): ranks hold equally many numbers, so means of means are exact."""
        mean = group.gather(x.mean((0, 2, 3))[None]).mean(0)
        centred = x - mean[:, None, None]
        variance = group.gather(centred.square().mean((0, 2, 3))[None]).mean(0)
        if self.training and self.running_mean is not None and self.running_var is not None:
            numbers = x.numel() // x.shape[1] * group.world
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum or 0.0)
                self.running_var.lerp_(variance * (numbers / (numbers - 1)), self.momentum or 0.0)
        scale = (self.weight * torch.rsqrt(variance + self.eps))[:, None, None]
        return centred * scale + self.bias[:, None, None]


class PlainInstanceNorm(nn.Module):
    """(x - mean) / sqrt(var + 1e-5) over each picture's channel, without weights (Ulyanov et al. 2016)."""

    def forward(self, x: Float[Tensor, "b c h w"], live: Live | None = None) -> Float[Tensor, "b c h w"]:
        if x.shape[2] * x.shape[3] == 1:
            raise ValueError(
                "instance norm sees one number a channel (1 x 1) and would make it 0: give a larger --size"
            )
        return F.instance_norm(x)


class NoNorm(nn.Module):
    """Leaves its input as it is."""

    def forward(self, x: Tensor, live: Live | None = None) -> Tensor:
        return x


def norm_layer(kind: Norm, channels: int) -> nn.Module:
    """The layer called `kind`.

    Raises:
        ValueError: no such kind.
    """
    if kind not in get_args(Norm):
        raise ValueError(f"--norm {kind}: choose one of {', '.join(get_args(Norm))}")
    made: dict[str, Callable[[], nn.Module]] = {
        "batch": lambda: BatchNorm(channels),
        "instance": PlainInstanceNorm,
        "none": NoNorm,
    }
    return made[kind]()
