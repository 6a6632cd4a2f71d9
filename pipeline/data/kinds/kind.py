"""What a kind of field is: how its bytes are checked, read, indexed, put into batches and shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from torch import Tensor

from models.family import FieldSpec


class Kind:
    """One kind. Pictures (`pixels`) are decoded by `pipeline.data.decode` and cut to the frame; other kinds have values
    of their own, read by `read`, and where they are small a column of the index."""

    name: ClassVar[str]
    pixels: ClassVar[Literal["", "image", "labels"]] = ""
    """How `decode.pixels` reads it: as 8-bit RGB, as ids; empty: it is no picture."""
    extension: ClassVar[str] = "txt"
    """Of a member that is no picture."""
    column: ClassVar[pa.DataType | None] = None
    """Type of the index column `FIELD_value`, for values that are worth filtering and counting by."""

    @property
    def read_as(self) -> str:
        """The kind that families ask for (`models.family.KINDS`): several kinds may differ only in how they are
        stored."""
        return self.name

    @property
    def nearest(self) -> bool:
        """Whether it is resized without mixing neighbouring pixels."""
        return self.pixels == "labels"

    def read(self, data: bytes) -> Any:
        """The value of a member that is no picture.

        Raises:
            ValueError: the reason why the sample is bad.
        """
        raise NotImplementedError

    def write(self, value: Any) -> bytes:
        """The inverse of `read`, for sources that make their members."""
        raise NotImplementedError

    def parse(self, text: str, facts: dict[str, Any]) -> Any:
        """A value as a person writes it on a command line.

        Raises:
            ValueError: not a value of this kind.
        """
        raise ValueError(f"a field of kind {self.name} cannot be given on the command line")

    def facts(self, values: Iterable[Any], named: Sequence[str]) -> dict[str, Any]:
        """What a family may need to know before it is built; `values`: of the whole training split, `named`: the
        classes' names where the source knows them."""
        return {}

    def batch(
        self, name: str, values: Sequence[Any], spec: FieldSpec, facts: dict[str, Any], choices: Sequence[float]
    ) -> dict[str, Tensor]:
        """Tensors of a batch, by name (the form is in `models.family.KINDS`). `choices`: a number in [0, 1) a sample,
        by which one of several values is taken."""
        raise NotImplementedError

    def shown(self, value: Tensor, facts: dict[str, Any]) -> np.ndarray | str:
        """One row of a batch for a sheet: uint8 `H W 3`, or text."""
        raise NotImplementedError
