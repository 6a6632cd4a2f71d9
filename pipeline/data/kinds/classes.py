"""A class a sample, some samples without one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from models.family import FieldSpec
from pipeline.data.kinds.kind import Kind


class Class(Kind):
    """The member holds the class's number as text: 0, 1, ...; -1 where the sample has none."""

    name, extension, column = "class", "cls", pa.int32()

    def read(self, data: bytes) -> int:
        try:
            value = int(data.decode("ascii"))
        except (ValueError, UnicodeDecodeError) as error:
            raise ValueError(f"a class is a number, got {data[:20]!r}") from error
        if not -1 <= value < 2**31:
            raise ValueError(f"class {value}: 0 or above, or -1 for none")
        return value

    def write(self, value: int) -> bytes:
        return str(int(value)).encode()

    def parse(self, text: str, facts: dict[str, Any]) -> int:
        """A number, or a name that the data set knows."""
        names = list(facts.get("names", []))
        count = int(facts.get("classes", 0))
        value = names.index(text) if text in names else self.read(text.encode())
        if count and not -1 <= value < count:
            raise ValueError(f"class {text}: the data set has {count}")
        return value

    def facts(self, values: Iterable[Any], named: Sequence[str]) -> dict[str, Any]:
        seen = np.fromiter(values, np.int64)
        classes = max(len(named), int(seen.max(initial=-1)) + 1)
        known = seen[seen >= 0]
        return {
            "classes": classes,
            "names": list(named),
            "counts": np.bincount(known, minlength=classes).tolist(),
            "labelled": len(known),
        }

    def batch(
        self, name: str, values: Sequence[Any], spec: FieldSpec, facts: dict[str, Any], choices: Sequence[float]
    ) -> dict[str, Tensor]:
        return {name: torch.tensor(list(values), dtype=torch.int64)}

    def shown(self, value: Tensor, facts: dict[str, Any]) -> np.ndarray | str:
        number, names = int(value), facts.get("names") or ()
        return str(names[number]) if 0 <= number < len(names) else str(number)


KIND = Class()
