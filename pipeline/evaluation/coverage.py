"""How much of a set another one covers: density and coverage, mode counts, reverse KL, the Inception score's rule."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

NEAR = 3.0
"""Deviations within which a sample counts as of its mode (PacGAN's code, threshold 3)."""
BLOCK = 1024


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020, eqs. 3 and 4) of features `N D` and `M D`.

    Around each real sample lies a ball as wide as its k-th nearest other real; what lies on its surface is outside.
    Density: balls that hold a fake, mean of the fakes, divided by k (1 for equal distributions; may be more). Coverage:
    share of the balls with a fake in them.
    Distances are float64 and computed directly.

    Raises:
        ValueError: not more than k real samples, or no fake.
    """
    if len(real) <= k or len(fake) == 0:
        raise ValueError(f"balls with k = {k} need more real samples than that and a fake: {len(real)}, {len(fake)}")
    real, fake = real.double(), fake.double()
    inside, hit = 0, 0
    for start in range(0, len(real), BLOCK):
        block = real[start : start + BLOCK]
        own = _distances(block, real)
        rows = torch.arange(len(block))
        own[rows, rows + start] = float("inf")
        radius = own.kthvalue(k, dim=1).values
        within = _distances(block, fake) < radius[:, None]
        inside += int(within.sum())
        hit += int(within.any(1).sum())
    return inside / (k * len(fake)), hit / len(real)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


class ModeFigures(NamedTuple):
    """Of a set of points beside a mixture of equal Gaussians."""

    captured: int
    """Modes with at least one sample within `NEAR` deviations."""
    high_quality: float
    """Share of samples within `NEAR` deviations of their nearest centre."""
    reverse_kl: float
    """KL(samples' share of each nearest centre || all alike), nats; of the high-quality ones. NaN without any."""


def mode_figures(points: np.ndarray, centres: np.ndarray, deviation: float) -> ModeFigures:
    """By PacGAN's rule (Lin et al. 2018, section 4.1, and its code; 2,500 samples there).

    Args:
        points: `N 2`.
        centres: `M 2`.
    """
    apart = np.linalg.norm(points[:, None, :] - centres[None], axis=2)
    nearest = apart.argmin(1)
    near = apart[np.arange(len(points)), nearest] <= NEAR * deviation
    counts = np.bincount(nearest[near], minlength=len(centres))
    return ModeFigures(int((counts > 0).sum()), float(near.mean()), reverse_kl(counts))


def centres_of(points: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """(`M D`, deviation): each class's mean, and what a coordinate deviates from it, all classes together.

    Args:
        points: `N D`.
        y: N, the classes; -1: not known, left out.
    """
    points, y = points[y >= 0], y[y >= 0]
    classes, place = np.unique(y, return_inverse=True)
    centres = np.stack([points[y == one].mean(0) for one in classes])
    squares = np.square(points - centres[place]).sum()
    return centres, float(np.sqrt(squares / ((len(points) - len(classes)) * points.shape[1])))


def reverse_kl(counts: np.ndarray) -> float:
    """KL(counts' shares || uniform), nats; NaN where there is nothing."""
    total = counts.sum()
    if not total:
        return float("nan")
    shares = counts[counts > 0] / total
    return float((shares * np.log(shares * len(counts))).sum())


def inception_score(probabilities: Tensor, splits: int = 10) -> tuple[float, float]:
    """(mean, deviation) over the splits of exp(mean KL(p(y | x) || p(y))) (Salimans et al. 2016, section 4), in the
    given order; p(y) is the split's own mean. Which classifier gave the probabilities `N K` belongs to the name.

    Raises:
        ValueError: fewer samples than splits.
    """
    if len(probabilities) < splits:
        raise ValueError(f"{splits} splits need as many samples: {len(probabilities)}")
    found = []
    for part in probabilities.double().chunk(splits):
        p = part.clamp(min=1e-300)
        found.append(float((part * (p.log() - part.mean(0).clamp(min=1e-300).log())).sum(1).mean().exp()))
    return float(np.mean(found)), float(np.std(found))
