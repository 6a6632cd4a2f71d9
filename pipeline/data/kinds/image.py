"""Pictures: 8-bit RGB, or grey where a family asks for one channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from models.family import FieldSpec
from pipeline.data import decode
from pipeline.data.kinds.kind import Kind
from pipeline.data.tensors import to_tensor, to_uint8


class Image(Kind):
    name, pixels = "image", "image"

    def batch(
        self, name: str, values: Sequence[Any], spec: FieldSpec, facts: dict[str, Any], choices: Sequence[float]
    ) -> dict[str, Tensor]:
        """`values`: uint8 `H W 3` of one size -> float32 `B C H W` in [-1, 1]."""
        if spec.channels == 1:
            return {name: to_tensor([decode.grey(image)[:, :, None] for image in values])}
        return {name: to_tensor(values)}

    def shown(self, value: Tensor, facts: dict[str, Any]) -> np.ndarray | str:
        return to_uint8(value)


KIND = Image()
