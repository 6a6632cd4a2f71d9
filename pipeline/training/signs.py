"""Early signs that training goes wrong: a discriminator that has won, a generator that has collapsed.

The rule: the mean of a figure's readings over the last `STEPS` steps, of at least `READINGS`, lies beyond the limit
that the family states (`models.family.Sign`). A sign is given once, and again only after the mean was within the limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from statistics import fmean

from models.family import Sign

STEPS = 1000
"""Of a stage, over which a figure must be beyond its limit: players change sides for hundreds of steps in good runs."""
READINGS = 3
"""At least so many, where figures are read seldom (held-out ones)."""


class Signs:
    """The signs of one stage. After a resume the windows fill anew."""

    def __init__(self, signs: Sequence[Sign]) -> None:
        self.signs = signs
        self._windows: dict[Sign, deque[tuple[int, float]]] = {sign: deque() for sign in signs}
        self._told: set[Sign] = set()

    def read(self, done: int, figures: Mapping[str, float]) -> list[tuple[Sign, float]]:
        """Take the figures read after `done` steps; returns the signs that are new, with their means."""
        found = []
        for sign in self.signs:
            if sign.figure not in figures:
                continue
            window = self._windows[sign]
            window.append((done, figures[sign.figure]))
            while len(window) > READINGS and window[1][0] <= done - STEPS:
                window.popleft()
            if len(window) < READINGS or window[0][0] > done - STEPS:
                continue
            mean = fmean(value for _, value in window)
            if not sign.below <= mean <= sign.above:
                if sign not in self._told:
                    found.append((sign, mean))
                self._told.add(sign)
            else:
                self._told.discard(sign)
        return found
