"""Neighbour lists -> (anchor, positive, negative).

StEP's first stage, as its released code draws them: the positive uniform over the k_c closest, the negative uniform
over the k_f furthest, drawn anew each time.
"""

from __future__ import annotations

import numpy as np

from pipeline.neighbours import Neighbours


class Triplets:
    """Triplets over the images that have neighbours (a bad image has none, and is in no list)."""

    def __init__(self, neighbours: Neighbours) -> None:
        self.near, self.far = neighbours.near, neighbours.far
        self.anchors: np.ndarray = np.flatnonzero((self.near >= 0).all(1))
        """Positions that can be anchors, ascending: int64."""

    def pick(self, anchors: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A positive and a negative for each of the anchors (positions, int64 `B`): int64 `B` each."""
        ranks = generator.random((len(anchors), 2))
        positive = self.near[anchors, (ranks[:, 0] * self.near.shape[1]).astype(np.int64)]
        negative = self.far[anchors, (ranks[:, 1] * self.far.shape[1]).astype(np.int64)]
        return positive.astype(np.int64), negative.astype(np.int64)
