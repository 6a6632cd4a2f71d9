"""Neighbour lists -> (anchor, positive, negative).

StEP's first stage, as its released code draws them: the positive uniform over the k_c closest, the negative uniform
over the k_f furthest, drawn anew each time.
"""

from __future__ import annotations

import numpy as np

from pipeline.neighbours.lists import Neighbours


class Triplets:
    """Triplets over the images that have neighbours (a bad image has none, and is in no list)."""

    def __init__(self, neighbours: Neighbours) -> None:
        self.neighbours = neighbours
        self.near, self.far = neighbours.near, neighbours.far
        self.anchors: np.ndarray = np.flatnonzero((self.near >= 0).all(1))
        """Positions that can be anchors, ascending: int64."""

    def pick(self, anchors: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A positive and a negative for each of the anchors (positions, int64 `B`): int64 `B` each.

        Two numbers are drawn for each anchor in turn: what it gets depends on its place in the batch alone.

        Raises:
            ValueError: an anchor that has no neighbours.
        """
        if len(bad := anchors[self.near[anchors, 0] < 0]):
            raise ValueError(
                f"sample {self.neighbours.keys[int(bad[0])]} has no neighbours: jobs.describe could not read it"
            )
        ranks = generator.random((len(anchors), 2))
        positive = self.near[anchors, (ranks[:, 0] * self.near.shape[1]).astype(np.int64)]
        negative = self.far[anchors, (ranks[:, 1] * self.far.shape[1]).astype(np.int64)]
        return positive.astype(np.int64), negative.astype(np.int64)
