"""Label maps: one channel of class ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from models.family import FieldSpec
from pipeline.data.kinds.kind import Kind
from pipeline.data.tensors import to_tensor, to_uint8


class Labels(Kind):
    name, pixels = "labels", "labels"

    def batch(
        self, name: str, values: Sequence[Any], spec: FieldSpec, facts: dict[str, Any], choices: Sequence[float]
    ) -> dict[str, Tensor]:
        """`values`: integer ids `H W` of one size -> int64 `B H W`."""
        return {name: to_tensor(values)}

    def shown(self, value: Tensor, facts: dict[str, Any]) -> np.ndarray | str:
        return to_uint8(value)


KIND = Labels()
