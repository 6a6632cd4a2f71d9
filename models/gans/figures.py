"""What is said of a whole set of fakes beside the real one."""

from __future__ import annotations

import torch
from torch import Tensor

DIRECTIONS = 128


def sliced_wasserstein(a: Tensor, b: Tensor, generator: torch.Generator, directions: int = DIRECTIONS) -> float:
    """Mean over random directions of W_1 between the projections of two sets of the same size `N D` (Rabin et al.
    2011): in units of the samples, per dimension's deviation, i.e. of unit directions times sqrt(D)."""
    drawn = torch.randn(a.shape[1], directions, generator=generator).to(a)
    drawn = drawn / drawn.norm(dim=0)
    first, second = ((x @ drawn).sort(0).values for x in (a, b))
    return float((first - second).abs().mean())


def majority_error(clusters: Tensor, classes: Tensor, matched_on: Tensor, matched_classes: Tensor) -> float:
    """Share of samples whose cluster's class is another than theirs; each cluster stands for the class that most of the
    samples `matched_on` in it have (a cluster without any: none, counted as wrong)."""
    count = int(max(clusters.max(), matched_on.max())) + 1
    kinds = int(max(classes.max(), matched_classes.max())) + 1
    table = torch.zeros(count, kinds, dtype=torch.int64)
    table.index_put_((matched_on, matched_classes), torch.ones_like(matched_on), accumulate=True)
    meaning = torch.where(table.sum(1) > 0, table.argmax(1), -1)
    return float((meaning[clusters] != classes).double().mean())
