"""Float arrays in place of pixels: features of another network, points."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.family import FieldSpec
from pipeline.data.kinds.kind import Kind

MOST = 1 << 28
"""Bytes of one array at most."""


class Array(Kind):
    """The member is a .npy file of real numbers, all finite; read without pickles."""

    name, extension = "array", "npy"

    def read(self, data: bytes) -> np.ndarray:
        if len(data) > MOST:
            raise ValueError(f"an array of {len(data)} bytes: at most {MOST}")
        try:
            found: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"not a .npy file of numbers ({error})") from error
        if not np.issubdtype(found.dtype, np.floating) and not np.issubdtype(found.dtype, np.integer):
            raise ValueError(f"an array of real numbers is wanted, this is {found.dtype}")
        if not np.isfinite(found).all():
            raise ValueError("the array holds NaN or infinity")
        return found.astype(np.float32)

    def write(self, value: Any) -> bytes:
        sink = io.BytesIO()
        np.save(sink, np.ascontiguousarray(value, dtype=np.float32), allow_pickle=False)
        return sink.getvalue()

    def batch(
        self, name: str, values: Sequence[Any], spec: FieldSpec, facts: dict[str, Any], choices: Sequence[float]
    ) -> dict[str, Tensor]:
        if len(shapes := {value.shape for value in values}) > 1:
            raise ValueError(f"field {name}: arrays of different shapes in one batch ({', '.join(map(str, shapes))})")
        return {name: torch.from_numpy(np.stack(values))}

    def shown(self, value: Tensor, facts: dict[str, Any]) -> np.ndarray | str:
        return ""  # a shape tells nothing of a sample


KIND = Array()
