"""Objects of a label map without a map of its own: each connected component of one class is one instance."""

from __future__ import annotations

import numpy as np
from skimage.measure import label

from pipeline.data.kinds.instances import Instances


class ConnectedComponents(Instances):
    """Reads the label map's own pixels; stores nothing."""

    name = "connected_components"

    @property
    def read_as(self) -> str:
        return "instances"

    def seen(self, piece: np.ndarray) -> np.ndarray:
        """Class ids `H W` -> 0, 1, ... for each area of one class that is connected up, down, left or right."""
        return np.asarray(label(piece, background=-1, connectivity=1) - 1)


KIND = ConnectedComponents()
