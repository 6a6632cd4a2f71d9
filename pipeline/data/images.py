"""Decoded images of a data set, by position and field, kept in memory up to a bound; whole batches in key order."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch

from models.family import Batch
from pipeline.data.order import rows_for_sheets
from pipeline.data.shards import DataSet
from pipeline.data.tensors import Array, fit, is_blank, to_tensor


class Images:
    """Decoded images of a data set by (position, field), the latest kept in memory up to `cache_bytes`."""

    def __init__(self, data: DataSet, cache_bytes: int = 1 << 30) -> None:
        self.data, self.free = data, cache_bytes
        self._kept: OrderedDict[tuple[int, str], Array] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, position: int, field: str) -> Array:
        with self._lock:
            if (image := self._kept.get((position, field))) is not None:
                self._kept.move_to_end((position, field))
                return image
        image = self.data.image(position, field)
        with self._lock:
            if (position, field) not in self._kept:
                self._kept[position, field] = image
                self.free -= image.nbytes
            while self.free < 0:
                self.free += self._kept.popitem(last=False)[1].nbytes
        return image

    def centred(self, positions: Sequence[int], fields: Sequence[str], frame: tuple[int, int]) -> Batch:
        """A batch of whole or centre-cropped samples, without any chance in it."""
        batch: Batch = {"index": torch.tensor(list(positions), dtype=torch.int64)}
        for field in fields:
            nearest = self.data.fields[field].kind == "labels"
            batch[field] = to_tensor([fit(self(p, field), frame, 1.0, (0.5, 0.5), nearest) for p in positions])
        return batch

    def rows_for_sheets(self, count: int, frame: tuple[int, int]) -> list[int]:
        """Positions of `count` samples for a sheet (see `order.rows_for_sheets`): blank is judged by the input, cut to
        `frame`, or by the first field of a data set without inputs."""
        field = "input" if "input" in self.data.fields else next(iter(self.data.fields))
        nearest = self.data.fields[field].kind == "labels"

        def blank(position: int) -> bool:
            return is_blank(fit(self(position, field), frame, 1.0, (0.5, 0.5), nearest))

        return rows_for_sheets(count, self.data.labels, blank)


def whole_batches(images: Images, batch: int, frame: tuple[int, int], rank: int, world: int) -> Iterator[Batch]:
    """All samples in key order, centred, in whole batches; this worker's are number rank, rank + world, ..."""
    fields = list(images.data.fields)
    for number, start in enumerate(range(0, len(images.data), batch)):
        if number % world == rank:
            yield images.centred(range(start, min(start + batch, len(images.data))), fields, frame)
