"""The search for one pair's nearest candidate: exact, projected, or level by level.

Of a candidate its distance is kept and nothing else, so that memory does not grow with their number; the target's
features are computed once. Candidates come from the pair's own input: no index is needed, a reduction suffices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from models.imle.distance import MaskedDistance
from models.imle.networks import Generator, label_pyramid, noise_pyramid
from models.imle.recipe import Config

RUNNERS_UP = 4
"""Distances kept of each search beside the winner's."""


class Candidates(Protocol):
    """What the search needs of the family."""

    recipe: Config
    distance: MaskedDistance
    generator: Generator

    def noise(self, seeds: Tensor, candidates: Tensor, size: Sequence[int]) -> list[Tensor]:
        """Raw noise of candidates `B L`, a map a level."""

    def level_noise(self, seeds: Tensor, candidates: Tensor, level: int, size: Sequence[int]) -> Tensor:
        """One level's."""

    def picture(self, x: Tensor, z: Sequence[Tensor]) -> Tensor:
        """The raw networks' output for conditions and raw noise."""


@dataclass(frozen=True)
class Found:
    """What was chosen for one pair."""

    candidate: Sequence[int]
    """Its number; level by level one number a level, coarse to fine."""
    distance: float
    runners_up: Float[Tensor, " r"]
    """The next `RUNNERS_UP` distances that could have been chosen, ascending, float32; infinite where there are fewer
    (or, with a projection, where they were not measured)."""
    rejected: int
    """Candidates nearer than epsilon, of those measured (unless projected: all)."""
    all_rejected: bool = False
    """There was no other: the furthest was taken."""


def nearest(
    family: Candidates,
    x: Float[Tensor, "1 c h w"],
    target: Float[Tensor, "1 3 h w"],
    mask: Float[Tensor, "1 1 h w"] | None,
    seed: int,
    count: int,
) -> Found:
    """The nearest of `count` candidates; ties go to the lower one.

    Candidates nearer than `epsilon` may not be chosen (RS-IMLE, Vashist, Peng, Li, ECCV 2024, where a sample near any
    observation is rejected: here a candidate has one). Where all are rejected, the furthest of them is.

    With `search` "projected", count-sketches nominate `rerank` candidates, whose distances decide; where all of those
    are rejected, the next ones are nominated.

    Raises:
        FloatingPointError: the generator gives what is not finite.
    """
    r, distance = family.recipe, family.distance
    wanted = distance.features(target)

    def features(candidates: Tensor) -> list[Tensor]:
        z = family.noise(torch.full_like(candidates, seed), candidates[:, None], x.shape[2:])
        return distance.features(family.picture(x.expand(len(candidates), -1, -1, -1), z))

    order, turn = torch.arange(count), count
    if r.search == "projected":
        sketch = distance.sketch(wanted, r.projection, mask)
        guesses = torch.empty(count)
        for some in _parts(order, r.search_batch):
            guess = distance.sketched(distance.sketch(features(some), r.projection, mask), sketch)
            guesses[some] = _finite(guess, some, seed)
        order, turn = guesses.argsort(stable=True), r.rerank
    every = torch.full((count,), torch.inf)
    for nominated in _parts(order, turn):
        for some in _parts(nominated, r.search_batch):
            every[some] = _finite(distance.total(features(some), wanted, mask), some, seed)
        if bool((every[nominated] >= r.epsilon).any()):
            break
    measured, near = every.isfinite(), every < r.epsilon
    if bool((near | ~measured).all()):  # then all were measured
        winner = int(every.argmax())
        return Found([winner], float(every[winner]), torch.full((RUNNERS_UP,), torch.inf), count, True)
    ranked = every.masked_fill(near, torch.inf)
    first = ranked.argsort(stable=True)[: RUNNERS_UP + 1]
    runners = F.pad(ranked[first[1:]], (0, max(0, RUNNERS_UP + 1 - count)), value=torch.inf)
    return Found([int(first[0])], float(ranked[first[0]]), runners, int(near.sum()))


def level_by_level(
    family: Candidates,
    x: Float[Tensor, "1 c h w"],
    target: Float[Tensor, "1 3 h w"],
    mask: Float[Tensor, "1 1 h w"] | None,
    seed: int,
) -> Found:
    """The noise of one level after the other, coarse to fine: at each the nearest of `level_samples` candidates, given
    the levels before, judged by that level's own picture (CHIMLE, Peng, Moazeni, Li, NeurIPS 2022). The
    sum of `level_samples` partial pictures stands for their product of whole ones; the chosen levels' features are
    kept, so that a candidate costs its own level alone.

    Raises:
        FloatingPointError: the generator gives what is not finite.
    """
    r, net, distance = family.recipe, family.generator, family.distance
    heads, below = len(r.level_samples), len(net.levels) - len(r.level_samples)
    labels, targets = label_pyramid(x, len(net.levels)), label_pyramid(target, heads)
    masks = [None] * heads if mask is None else label_pyramid(mask, heads)
    features: Tensor | None = None
    chosen: list[int] = []
    for head, count in enumerate(r.level_samples):
        first, last = (0, below) if head == 0 else (below + head, below + head)
        wanted = distance.features(targets[head])
        every, best, kept = torch.empty(count), torch.inf, None
        for some in _parts(torch.arange(count), r.search_batch):
            z = family.level_noise(torch.full_like(some, seed), some, head, x.shape[2:])
            given = None if features is None else features.expand(len(some), -1, -1, -1)
            conditions = [label.expand(len(some), -1, -1, -1) for label in labels[first : last + 1]]
            refined = net.refine(given, conditions, noise_pyramid([z], last + 1 - first), first)
            made = distance.features(net.picture(refined, head))
            every[some] = _finite(distance.total(made, wanted, masks[head]), some, seed)
            least = int(every[some].argmin())
            if float(every[some[least]]) < best:
                best, winner = float(every[some[least]]), int(some[least])
                kept = refined[least : least + 1].clone()
        features = kept
        chosen.append(winner)
    ranked = every.sort().values[1 : RUNNERS_UP + 1]
    return Found(chosen, best, F.pad(ranked, (0, RUNNERS_UP - len(ranked)), value=torch.inf), 0)


def _finite(found: Float[Tensor, " n"], candidates: Tensor, seed: int) -> Float[Tensor, " n"]:
    found = found.float().cpu()
    if not bool(found.isfinite().all()):
        wrong = int(candidates[(~found.isfinite()).nonzero()[0]])
        raise FloatingPointError(f"candidate {wrong} of seed {seed}: not finite")
    return found


def _parts(numbers: Tensor, size: int) -> list[Tensor]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
