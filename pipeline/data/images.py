"""Samples as batches: decoded values by position and field, kept in memory up to a bound, cut to one frame, stacked."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from models.family import Batch, Facts, FieldSpec, Recipe
from pipeline.data import kinds
from pipeline.data.order import rows_for_sheets
from pipeline.data.shards import DataSet, facts_of
from pipeline.data.tensors import Mode, fit, is_blank


@dataclass(frozen=True)
class Crop:
    """How one sample is cut: equally for all its fields, so that input and target stay aligned."""

    scale: float = 1.0
    top: float = 0.5
    left: float = 0.5
    mirrored: bool = False
    choice: float = 0.0
    """Which of several values (captions) is taken, in [0, 1)."""


CENTRE = Crop()


class Images:
    """The samples of a data set, the latest values kept in memory up to `cache_bytes`."""

    def __init__(
        self,
        data: DataSet,
        cache_bytes: int = 1 << 30,
        specs: Mapping[str, FieldSpec] | None = None,
        facts: Facts | None = None,
        mode: Mode = "cover",
    ) -> None:
        """`specs`: how a family reads the fields (none: as they are); `facts`: the training split's, by which words and
        answers are numbered (none: this split's own)."""
        self.data, self.free, self.mode = data, cache_bytes, mode
        plain = {name: FieldSpec(kinds.named(field.kind).read_as) for name, field in data.fields.items()}
        self.specs = {name: (specs or {}).get(name, spec) for name, spec in plain.items()}
        self._facts = facts
        self._kept: OrderedDict[tuple[int, str], Any] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    def of(data: DataSet, recipe: Recipe, specs: Mapping[str, FieldSpec], facts: Facts, cache: int = 1 << 30) -> Images:
        """As a family with this recipe reads them."""
        return Images(data, cache, specs, facts, recipe.fit)

    @property
    def facts(self) -> Facts:
        if self._facts is None:
            self._facts = facts_of(self.data)
        return self._facts

    def __call__(self, position: int, field: str) -> Any:
        """The value: uint8 `H W 3`, ids `H W`, or what the field's kind reads."""
        with self._lock:
            if (value := self._kept.get((position, field))) is not None:
                self._kept.move_to_end((position, field))
                return value
        value = self.data.value(position, field)
        with self._lock:
            if (position, field) not in self._kept:
                self._kept[position, field] = value
                self.free -= _bytes(value)
            while self.free < 0:
                self.free += _bytes(self._kept.popitem(last=False)[1])
        return value

    def cut(self, position: int, field: str, frame: tuple[int, int], crop: Crop = CENTRE) -> np.ndarray:
        """A picture as a piece of `frame` (height, width)."""
        kind = kinds.named(self.data.fields[field].kind)
        image = fit(self(position, field), frame, crop.scale, (crop.top, crop.left), kind.nearest, self.mode)
        image = kind.seen(image)
        return image[:, ::-1] if crop.mirrored else image

    def rows_for_sheets(self, count: int, frame: tuple[int, int]) -> list[int]:
        """Positions of `count` samples for a sheet (see `order.rows_for_sheets`): blank is judged by the input, cut to
        `frame`, or by the first picture of a data set without inputs."""
        pictures = [name for name, field in self.data.fields.items() if kinds.named(field.kind).pixels]
        field = "input" if "input" in pictures else pictures[0] if pictures else ""

        def blank(position: int) -> bool:
            return bool(field) and is_blank(self.cut(position, field, frame))

        return rows_for_sheets(count, self.data.labels, blank)

    def tensors(
        self, positions: Sequence[int], field: str, frame: tuple[int, int], crops: Sequence[Crop]
    ) -> dict[str, torch.Tensor]:
        """One field of some samples, by name of the tensors (see `models.family.KINDS`)."""
        kind = kinds.named(self.data.fields[field].kind)
        if kind.pixels:
            values = [self.cut(p, field, frame, crop) for p, crop in zip(positions, crops, strict=True)]
        else:
            values = [self(p, field) for p in positions]
        facts = dict(self.facts.fields.get(field, {})) if not kind.pixels else {}
        return kind.batch(field, values, self.specs[field], facts, [crop.choice for crop in crops])

    def centred(
        self, positions: Sequence[int], fields: Sequence[str], frame: tuple[int, int], choices: Sequence[float] = ()
    ) -> Batch:
        """A batch of whole or centre-cropped samples, without any chance in it. `choices`: which of several values of a
        sample is taken (`Crop.choice`); none: the first."""
        batch: Batch = {"index": torch.tensor(list(positions), dtype=torch.int64)}
        crops = [Crop(choice=choice) for choice in choices] if choices else [CENTRE] * len(positions)
        for field in fields:
            batch |= self.tensors(positions, field, frame, crops)
        return batch


def _bytes(value: Any) -> int:
    return value.nbytes if isinstance(value, np.ndarray) else sys.getsizeof(value)


def whole_batches(images: Images, batch: int, frame: tuple[int, int], rank: int, world: int) -> Iterator[Batch]:
    """All samples in key order, centred, in whole batches; this worker's are number rank, rank + world, ..."""
    fields = list(images.data.fields)
    for number, start in enumerate(range(0, len(images.data), batch)):
        if number % world == rank:
            yield images.centred(range(start, min(start + batch, len(images.data))), fields, frame)
