"""Shards -> decoded batches, in one global order for any number of workers, resumable at any draw.

A global batch is a function of (seed, stage, stream, draw number, fingerprints of data set and sampler) alone. Each
worker computes the same order and reads its own share of it, so nothing needs to be sent, skipped or replayed.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from models.family import Batch, Stream, Table, Tables
from pipeline.data.images import Crop, Images
from pipeline.data.order import global_batch, stream_generator
from pipeline.training.triplets import Triplets

PREFETCH = 3
"""Draws prepared ahead of the one in use."""

Array = np.ndarray


def to_device(batch: Batch, device: torch.device) -> Batch:
    return {k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}


@dataclass(frozen=True)
class Sources:
    """What streams draw from: images, triplets of them, and the stages' tables."""

    images: Images
    triplets: Triplets | None = None
    tables: Tables = dataclasses.field(default_factory=dict)
    sampler: str = ""
    """Content hash of the neighbour artifact behind `triplets`."""


class Feed:
    """The streams of one stage for one worker: `draw(name)` returns the worker's share of the next global batch.

    `counts` (stream -> draws taken so far) is all that a checkpoint needs of it.
    """

    def __init__(
        self,
        sources: Sources,
        streams: Mapping[str, Stream],
        stage: str,
        seed: int,
        frame: tuple[int, int],
        counts: Mapping[str, int] | None = None,
        rank: int = 0,
        world: int = 1,
        pinned: bool = False,
    ) -> None:
        """pinned: batches lie in page-locked memory, from which a GPU takes them while the host goes on."""
        self.sources, self.streams, self.stage, self.frame = sources, dict(streams), stage, frame
        self.rank, self.world, self.pinned = rank, world, pinned
        self.counts = {name: int((counts or {}).get(name, 0)) for name in streams}
        self._words = {
            n: (seed, stage, n, sources.images.data.fingerprint, sources.sampler if s.source == "triplets" else "")
            for n, s in streams.items()
        }
        self._members = {n: self._select(n, s) for n, s in streams.items()}
        self._ahead: dict[str, OrderedDict[int, Future[Batch]]] = {n: OrderedDict() for n in streams}
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="batches")

    def _select(self, name: str, stream: Stream) -> Array:
        if stream.batch % (self.world * stream.unit):
            unit = f" in units of {stream.unit}" if stream.unit > 1 else ""
            raise ValueError(f"batch {stream.batch} of stream {name!r} is not divisible by {self.world} workers{unit}")
        data = self.sources.images.data
        for field in stream.fields:
            if field not in data.fields:
                raise ValueError(f"{data.root} has no field {field!r}, only {', '.join(sorted(data.fields))}")
        if stream.source == "table":
            return np.empty(0, np.int64)  # its rows may come with the first refresh
        if stream.source == "triplets":
            if self.sources.triplets is None:
                raise ValueError(f"stage {self.stage!r} trains on triplets: give --neighbours")
            return self.sources.triplets.anchors
        keep: Callable[[Mapping[str, object]], bool] = stream.keep or (lambda row: True)
        return np.array([i for i in range(len(data)) if keep(data.row(i))] if stream.keep else range(len(data)))

    def draw(self, name: str) -> Batch:
        number, ahead = self.counts[name], self._ahead[name]
        for n in range(number, number + PREFETCH):
            if n not in ahead:
                ahead[n] = self._pool.submit(self._ready, name, n)
        batch = ahead.pop(number).result()
        self.counts[name] = number + 1
        return batch

    def _ready(self, name: str, number: int) -> Batch:
        batch = self.share(name, number)
        return {k: v.pin_memory() if torch.is_tensor(v) else v for k, v in batch.items()} if self.pinned else batch

    def renew(self) -> None:
        """Forget what was prepared of tables, after one changed."""
        for name, stream in self.streams.items():
            if stream.source == "table":
                self._ahead[name].clear()

    def order(self, name: str, number: int) -> Array:
        """Positions (of a table: rows) of the whole global batch `number`: what all workers agree on."""
        stream, members = self.streams[name], self._members[name]
        if stream.source == "table":
            members = np.arange(len(next(iter(self._table(stream).values()))))
        return global_batch(stream, members, number, *self._words[name])

    def _table(self, stream: Stream) -> Table:
        if stream.table not in self.sources.tables:
            raise ValueError(f"stage {self.stage!r} needs the table of stage {stream.table!r}: nothing made it yet")
        return self.sources.tables[stream.table]

    def share(self, name: str, number: int) -> Batch:
        """This worker's contiguous share of global batch `number`."""
        stream = self.streams[name]
        order = self.order(name, number)
        part = len(order) // self.world
        mine = slice(self.rank * part, (self.rank + 1) * part)
        generator = stream_generator(*self._words[name], "augment", number)
        if stream.source == "table":
            rows = torch.from_numpy(order[mine].copy())
            drawn: Batch = {"row": rows, **{k: v[rows] for k, v in self._table(stream).items()}}
            if not stream.fields:
                return drawn
            still = np.stack([np.ones(len(rows)), np.zeros(len(rows))], 1)  # a table's samples are not mirrored
            return {**drawn, **self._fields(stream, drawn["index"].numpy(), drawn["crop"], still)}
        if stream.source == "triplets":
            assert self.sources.triplets is not None
            positives, negatives = self.sources.triplets.pick(order, generator)
            roles = {"anchor": order, "positive": positives, "negative": negatives}
            field = stream.fields[0]
            crops = self._crops(generator, 3 * len(order), stream.augment)
            batch: Batch = {"index": torch.from_numpy(order[mine].copy())}
            for i, (role, positions) in enumerate(roles.items()):
                lot = [Crop(*one) for one in crops[i * len(order) : (i + 1) * len(order)]]
                batch[role] = self._images.tensors(positions[mine].tolist(), field, self.frame, lot[mine])[field]
            return batch
        crop = torch.tensor(self._crops(generator, len(order), stream.augment)[mine], dtype=torch.float64)
        # Numbers of their own: what is drawn above stays as it is for streams without mirroring or several values.
        more = stream_generator(*self._words[name], "mirror and choice", number).random((len(order), 2))[mine]
        index = torch.from_numpy(order[mine].copy())
        return {"index": index, "crop": crop, **self._fields(stream, order[mine], crop, more)}

    @staticmethod
    def _crops(generator: np.random.Generator, count: int, scales: Sequence[float]) -> list[tuple[float, float, float]]:
        drawn = generator.random((count, 3))
        return [(scales[int(s * len(scales))], y, x) for s, y, x in drawn.tolist()]

    def _fields(self, stream: Stream, positions: Array, crop: torch.Tensor, more: Array) -> Batch:
        """One crop for all fields of a sample: input and target stay aligned."""
        crops = [
            Crop(scale, top, left, mirror < stream.flip, choice)
            for (scale, top, left), (mirror, choice) in zip(crop.tolist(), more.tolist(), strict=True)
        ]
        batch: Batch = {}
        for field in stream.fields:
            batch |= self._images.tensors(positions.tolist(), field, self.frame, crops)
        return batch

    @property
    def _images(self) -> Images:
        return self.sources.images

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def join_rows(parts: Sequence[Table], rows: int, batch: int) -> Table:
    """Put the workers' rows of `whole_batches` back into key order."""
    world = len(parts)
    taken = [0] * world
    pieces: dict[str, list[torch.Tensor]] = {name: [] for name in parts[0]}
    for number, start in enumerate(range(0, rows, batch)):
        rank, count = number % world, min(batch, rows - start)
        for name, piece in pieces.items():
            piece.append(parts[rank][name][taken[rank] : taken[rank] + count])
        taken[rank] += count
    if any(taken[rank] != len(next(iter(part.values()))) for rank, part in enumerate(parts)):
        raise ValueError(f"a harvest has one row a sample: {rows} wanted")
    return {name: torch.cat(piece) for name, piece in pieces.items()}
