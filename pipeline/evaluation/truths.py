"""Which of an input's plausible outputs its samples reach, where a data set knows them all (field `truths`)."""

from __future__ import annotations

import torch
from torch import Tensor

NEAR = 0.03
"""A sample hits a truth when its mean squared distance to it is under this share of the mean one between two truths of
that input: their average, which is what a regression gives, hits none."""


def hits(samples: Tensor, truths: Tensor) -> Tensor:
    """bool `M K`: whether each of the samples (`M C H W`) hits each of the truths (`K C H W`) of one input."""
    near = (samples[:, None] - truths).square().mean((2, 3, 4))
    return near < NEAR * apart(truths)


def apart(truths: Tensor) -> Tensor:
    """Mean over all pairs of their mean squared distance."""
    return torch.stack([(a - b).square().mean() for i, a in enumerate(truths) for b in truths[i + 1 :]]).mean()


def of_input(samples: Tensor, truths: Tensor) -> dict[str, float]:
    """Of one input: `hit`, the number of truths that are hit; `all_hit`, whether all are; `on_a_truth`, the share of
    the samples that hit any."""
    found = hits(samples, truths)
    reached = found.any(0)
    return {
        "hit": float(reached.sum()),
        "all_hit": float(reached.all()),
        "on_a_truth": float(found.any(1).double().mean()),
    }
