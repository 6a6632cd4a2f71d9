"""A training step written as a generator: it yields its optimisers' moves, and so can be taken in micro-batches.

With `group.accumulate` = k, k of these generators run side by side, each on its part of the batch. What they yield is
averaged before it is applied, so that each goes on with the weights that the whole batch would have moved. Several
optimisers and their alternation (D, then G through the D that has moved) therefore need nothing of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from models.common.optimise import move
from models.family import Batch, Draw, Family


@dataclass(frozen=True)
class Move:
    """One optimiser's step."""

    optimiser: str
    """Its name in `Family.optimisers`."""
    grads: Sequence[Tensor]
    """Of this micro-batch's mean loss, one for each of its parameters, in their order."""
    rate: float
    clip: float = 0.0
    """Largest norm of the whole batch's gradient, which is shortened to it; 0: any."""


Step = Generator[list[Move], None, dict[str, Tensor]]
"""Yields moves that are made together; returns scalars for the log."""


class Stepwise(Family):
    """A family whose update is `step`.

    A micro-batch equals the batch (to rounding) where losses are means over it, sums are multiplied by `group.pieces`,
    and noise is drawn by `Live.rows`. Statistics of a batch norm are those of a micro-batch: there it is another step.
    What happens once after all moves (a weight average) belongs into `update`.
    """

    accumulates: ClassVar[bool] = True

    def step(self, draw: Draw, images: int) -> Step:
        """As `update`, for one micro-batch. Gradients are yielded at once, and not kept: with several micro-batches
        memory then holds one graph, but for what is needed on both sides of a `yield`."""
        raise NotImplementedError

    def update(self, draw: Draw, images: int) -> dict[str, Tensor]:
        dealt = Dealt(draw, self.group.accumulate)
        steps = [self.step(dealt.part(turn), images) for turn in range(self.group.accumulate)]
        found: list[dict[str, Tensor]] = []
        try:
            while not found:
                moves: list[Move] = []
                for turn, step in enumerate(steps):
                    self.group.turn = turn
                    try:
                        moves = _sum(moves, next(step))
                    except StopIteration as end:
                        found.append(end.value)
                while moves:  # nothing holds the gradients of one move during the next
                    self._make(moves.pop(0))
        finally:
            self.group.turn = 0
        if len(found) == 1:
            return found[0]
        return {name: torch.stack([scalars[name] for scalars in found]).mean(0) for name in found[0]}

    def _make(self, one: Move) -> None:
        if self.group.accumulate > 1:
            torch._foreach_div_(list(one.grads), self.group.accumulate)
        optimiser = self.optimisers[one.optimiser]
        params = [p for settings in optimiser.param_groups for p in settings["params"]]
        move(self.group, optimiser, params, one.grads, one.rate, one.clip)


def _sum(before: list[Move], more: list[Move]) -> list[Move]:
    """Gradients are summed into new tensors: autograd may hand out one tensor twice."""
    if not before:
        return more
    return [
        replace(a, grads=torch._foreach_add(list(a.grads), list(b.grads))) for a, b in zip(before, more, strict=True)
    ]


class Dealt:
    """Draws of a step, each made once and cut into equal parts."""

    def __init__(self, draw: Draw, parts: int) -> None:
        self.draw, self.parts = draw, parts
        self.drawn: list[Batch] = []

    def part(self, number: int) -> Draw:
        """Draws of this part: its n-th is a part of the n-th of all."""
        places = itertools.count()

        def draw(stream: str) -> Batch:
            place = next(places)
            if place == len(self.drawn):
                self.drawn.append(self.draw(stream))
            whole = self.drawn[place]
            return whole if self.parts == 1 else {name: self._cut(value, number) for name, value in whole.items()}

        return draw

    def _cut(self, value: Tensor, number: int) -> Tensor:
        rows = len(value) // self.parts
        return value[number * rows : (number + 1) * rows]
