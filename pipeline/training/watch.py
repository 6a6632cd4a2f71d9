"""What a training run tells of itself: scalars, held-out figures, sheets of pictures, speed, which step was best."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import torch

from models.family import Family, Group, Stage
from pipeline.artifacts import storage
from pipeline.data import tensors
from pipeline.data.images import Images
from pipeline.data.order import picks
from pipeline.data.shards import DataSet
from pipeline.runs import checkpoint
from pipeline.tracking import sheets
from pipeline.tracking.journal import Tracker
from pipeline.training.feed import to_device

if TYPE_CHECKING:
    from pipeline.training.job import Job

ROWS = 6
"""Samples on a sheet."""
RATE_SECONDS = 10.0
"""Over which images/s is measured."""


class Watch:
    """Rank 0's eye on held-out samples; on the other ranks (no tracker) it does nothing."""

    def __init__(self, job: Job, family: Family, device: torch.device, tracker: Tracker | None) -> None:
        self.job, self.family, self.device, self.tracker = job, family, device, tracker
        self.held_out: Images | None = None
        if tracker:
            with suppress(ValueError):  # a data set without a held-out split trains all the same, unwatched
                self.held_out = Images(DataSet(job.data, job.held_out), job.run.cache_bytes // 4)

    def log(self, stage: Stage, scalars: Mapping[str, float], done: int, rate: float) -> None:
        if self.tracker:
            values = {f"{stage.name}/{name}": value for name, value in scalars.items()}
            self.tracker.scalars({**values, f"{stage.name}/images_per_second": rate}, done * stage.batch)

    def look(self, stage: Stage, done: int) -> float | None:
        """Evaluate and draw. Returns the deciding figure where it is the stage's lowest so far."""
        if self.held_out is None or self.tracker is None:
            return None
        means = self._evaluate(stage.batch)
        self.tracker.scalars({f"{stage.name}/held_out/{k}": v for k, v in means.items()}, done * stage.batch)
        self._preview(stage, done)
        if not means:
            return None
        value = next(iter(means.values()))
        best = checkpoint.best(self.job.output).get(stage.name)
        return value if best is None or value < best["value"] else None

    def _evaluate(self, batch_size: int) -> dict[str, float]:
        """Means over a fixed choice of held-out samples; a figure that a batch lacks is not counted for it."""
        assert self.held_out is not None
        chosen = picks(len(self.held_out.data), self.job.run.evaluate_images)
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        fields, frame = list(self.held_out.data.fields), self.job.recipe.frame
        for start in range(0, len(chosen), batch_size):
            batch = self.held_out.centred(chosen[start : start + batch_size], fields, frame)
            found = self.family.evaluate(to_device(batch, self.device))
            if not found:
                break
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value * len(batch["index"])
                counts[name] = counts.get(name, 0) + len(batch["index"])
        return {name: value / counts[name] for name, value in sums.items()}

    def _preview(self, stage: Stage, done: int) -> None:
        assert self.held_out is not None and self.tracker is not None
        data, recipe = self.held_out.data, self.job.recipe
        positions = self.held_out.rows_for_sheets(ROWS, recipe.frame)
        batch = to_device(self.held_out.centred(positions, list(data.fields), recipe.frame), self.device)
        columns = self.family.preview(batch, torch.Generator().manual_seed(recipe.seed))
        if not columns:
            return
        cells = [[tensors.to_uint8(column[r]) for column in columns.values()] for r in range(len(positions))]
        note = "perceptual network with RANDOM weights" if self.job.weights == "random" else ""
        title = f"{stage.name}, {done * stage.batch} images"
        sheet = sheets.sheet(cells, [data.keys[p] for p in positions], list(columns), title, note)
        self.tracker.picture(f"{stage.name}-preview", sheet, done * stage.batch)


class Window:
    """Means of scalars over the steps since the last `take`."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self, group: Group) -> dict[str, float]:
        means = {name: self.sums[name] / self.counts[name] for name in self.sums}
        self.sums, self.counts = {}, {}
        return group.mean(means)


class Clock:
    """Images/s over the last seconds, and the progress file that the driver's bar reads."""

    def __init__(self, folder: str, stage: Stage, total: int, done: int, rank: int) -> None:
        self.path, self.stage, self.total, self.rank = storage.join(folder, "progress.json"), stage, total, rank
        self.told, self.rate = 0.0, 0.0
        self.every = 10.0 if storage.is_remote(folder) else 1.0
        self._ticks: deque[tuple[float, int]] = deque([(time.monotonic(), done)])

    def tick(self, done: int) -> None:
        now = time.monotonic()
        self._ticks.append((now, done))
        while len(self._ticks) > 2 and self._ticks[1][0] < now - RATE_SECONDS:
            self._ticks.popleft()
        since, first = self._ticks[0]
        self.rate = (done - first) * self.stage.batch / max(now - since, 1e-9)
        if self.rank == 0 and now - self.told > self.every:
            self.told = now
            seen, of = done * self.stage.batch, self.total * self.stage.batch
            storage.publish_json(self.path, {"stage": self.stage.name, "images": seen, "of": of, "rate": self.rate})
