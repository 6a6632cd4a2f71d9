"""Objects of a label map without a map of its own: each connected area of one class is one instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from skimage.measure import label
from torch import Tensor

from models.family import FieldSpec
from pipeline.data.kinds.instances import Instances


class Components(Instances):
    """Reads the label map's own pixels; stores nothing."""

    name = "components"

    @property
    def read_as(self) -> str:
        return "instances"

    def batch(
        self, name: str, values: Sequence[Any], spec: FieldSpec, facts: dict[str, Any], choices: Sequence[float]
    ) -> dict[str, Tensor]:
        """`values`: class ids `H W` of one size -> int64 `B H W`: 0, 1, ... for each area of one class that is
        connected up, down, left or right."""
        found = [label(np.asarray(x), background=-1, connectivity=1) - 1 for x in values]
        return super().batch(name, found, spec, facts, choices)


KIND = Components()
