"""What a game is made of: terms of the losses, penalties, constraints on the critic's weights, and what they see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.group import Group

Heads = Mapping[str, Tensor]
"""A critic's outputs by name: `score` B, `energy` B, `logits` `B K`, `code` `B S`, `q` `B P`, `features` `B F`."""
Losses = dict[str, Tensor]
"""Named scalars; what is minimised is their sum."""


class Random:
    """This rank's rows of what one worker would draw for the whole batch, so that workers do not change the numbers."""

    def __init__(self, generator: torch.Generator, group: Group) -> None:
        self.generator, self.group = generator, group

    def _own(self, whole: Tensor) -> Tensor:
        return whole.chunk(self.group.world)[self.group.rank]

    def normal(self, rows: int, *shape: int) -> Tensor:
        """`rows *shape`, N(0, 1)."""
        return self._own(torch.randn(rows * self.group.world, *shape, generator=self.generator))

    def uniform(self, rows: int, *shape: int) -> Tensor:
        """`rows *shape`, U[0, 1)."""
        return self._own(torch.rand(rows * self.group.world, *shape, generator=self.generator))

    def integers(self, rows: int, high: int) -> Tensor:
        """int64 `rows`, from 0 to high - 1, all alike."""
        return self._own(torch.randint(high, (rows * self.group.world,), generator=self.generator))


class Side(NamedTuple):
    """Pictures (or points) and their classes."""

    x: Tensor
    """`B C H W`, or `B D` for points."""
    y: Tensor | None = None
    """int64 B; -1: not known."""


@dataclass(frozen=True)
class Round:
    """The data of one loss: of the critic's, or of the generator's."""

    real: Side
    fake: Side
    """With the generator's graph in its own loss, without it in the critic's."""
    random: Random
    group: Group
    labelled: Side | None = None
    """Real samples with classes, beside `real` (semi-supervised games)."""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """The parts of the latent that have a meaning: `class` int64 B, `code` `B C`."""


class Seen(NamedTuple):
    """The critic's heads on each side of a round. In the generator's loss `real` is there for terms that compare."""

    real: Heads
    fake: Heads
    labelled: Heads


Critic = Callable[[Tensor, Tensor | None, Random], Heads]
"""`critic(x, y, random)`: y is looked at by conditional critics alone, random by those with dropout or noise."""


class Term(nn.Module):
    """One summand of both players' losses. What it remembers between steps is a buffer, so that it is checkpointed."""

    heads: frozenset[str] = frozenset()
    """The critic's heads that it looks at."""
    compares: bool = False
    """Whether the generator's loss looks at the real samples' heads."""
    labelled: bool = False
    """Whether it looks at `Round.labelled`."""

    def critic(self, seen: Seen, round: Round) -> Losses:
        """What the critic minimises."""
        return {}

    def generator(self, seen: Seen, round: Round) -> Losses:
        """What the generator minimises."""
        return {}

    def watch(self, seen: Seen, round: Round) -> dict[str, Tensor]:
        """Scalars for the log alone, of the critic's last round; no gradient."""
        return {}

    def after(self, critic: Losses, generator: Losses) -> Losses:
        """Once both have stepped, with their losses' values over all ranks (the critic's of its last step), without
        gradient: renew what it remembers; scalars for the log. Nothing is read from the device."""
        return {}


Points = Callable[[Round], Tensor]
"""Where a penalty looks at the critic: `B ...`, shaped as the real samples."""
Penalty = Callable[[Critic, Round], Losses]
"""Added to the critic's losses."""
Constraint = Callable[[nn.Module], None]
"""Runs on the critic after each of its steps."""
Schedule = Callable[[int], int]
"""`schedule(step)`: the critic's steps before the generator's step of this number, from 0."""
