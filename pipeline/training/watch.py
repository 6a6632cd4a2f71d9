"""What a training run tells of itself: scalars, held-out figures, sheets of pictures, speed, which step was best."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import models
from models.abilities import JudgesSet
from models.family import Batch, Facts, Family, PerceptualRecipe, Stage
from models.group import Group
from pipeline.artifacts import storage
from pipeline.data import kinds, tensors
from pipeline.data.images import Images
from pipeline.data.order import picks
from pipeline.data.shards import DataSet
from pipeline.runs import checkpoint
from pipeline.tracking import sheets
from pipeline.tracking.journal import Tracker
from pipeline.training import signs
from pipeline.training.feed import to_device

if TYPE_CHECKING:
    from pipeline.training.job import Job

ROWS = 6
"""Samples on a sheet."""
RATE_SECONDS = 10.0
"""Over which images/s is measured."""


class Watch:
    """Rank 0's eye on held-out samples; on the other ranks (no tracker) it does nothing."""

    def __init__(self, job: Job, family: Family, facts: Facts, device: torch.device, tracker: Tracker | None) -> None:
        self.job, self.family, self.facts, self.device, self.tracker = job, family, facts, device, tracker
        self.held_out: Images | None = None
        self.signs: dict[str, signs.Signs] = {}
        if tracker:
            with suppress(ValueError):  # a data set without a held-out split trains all the same, unwatched
                data, specs = DataSet(job.data, job.held_out), models.load(job.family).fields(job.recipe)
                self.held_out = Images.of(data, job.recipe, specs, facts, job.run.cache_bytes // 4)

    def log(self, stage: Stage, scalars: Mapping[str, float], seconds: float, done: int, rate: float) -> None:
        """`scalars` and `seconds` as `Window.take` gives them; `rate`: images/s."""
        if self.tracker:
            values = {**scalars, "images_per_second": rate, "cpu_seconds_per_step": seconds}
            self.tracker.scalars({f"{stage.name}/{name}": v for name, v in values.items()}, done * stage.batch)
            self._heed(stage, done, scalars)

    def look(self, stage: Stage, done: int) -> tuple[str, float] | None:
        """Evaluate and draw. Returns the deciding figure, by name, where it is the stage's lowest so far."""
        if self.held_out is None or self.tracker is None:
            return None
        means = self._evaluate(max(stage.batch, 2))  # of one picture there is no spread
        self.tracker.scalars({f"{stage.name}/held_out/{k}": v for k, v in means.items()}, done * stage.batch)
        self._heed(stage, done, {f"held_out/{name}": value for name, value in means.items()})
        self._preview(stage, done)
        if not means:
            return None
        name, value = next(iter(means.items()))
        best = checkpoint.best(self.job.output).get(stage.name)
        return (name, value) if best is None or value < best["value"] else None

    def _heed(self, stage: Stage, done: int, figures: Mapping[str, float]) -> None:
        """Warn of signs that training goes wrong: on stderr, and in MLflow as a tag and as a scalar."""
        assert self.tracker is not None
        for sign, mean in self.signs.setdefault(stage.name, signs.Signs(self.family.signs)).read(done, figures):
            text = f"{sign.figure} has been {mean:.4g} on average for {signs.STEPS} steps or more: {sign.says}"
            print(f"warning: stage {stage.name}, step {done}: {text}", file=sys.stderr, flush=True)
            self.tracker.tags({f"warning.{stage.name}.{sign.figure.replace('/', '.')}": f"step {done}: {text}"})
            self.tracker.scalars({f"{stage.name}/warning/{sign.figure}": mean}, done * stage.batch)

    def _evaluate(self, batch_size: int) -> dict[str, float]:
        """Means over a fixed choice of held-out samples, weighted by the batches' sizes; a figure that a batch lacks is
        not counted for it. Then what the family says of all of them together."""
        assert self.held_out is not None
        chosen = picks(len(self.held_out.data), self.job.run.evaluate_images)
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for batch in self._batches(chosen, batch_size):
            found = self.family.evaluate(batch)
            if not found:
                break
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value * len(batch["index"])
                counts[name] = counts.get(name, 0) + len(batch["index"])
        means = {name: value / counts[name] for name, value in sums.items()}
        if isinstance(self.family, JudgesSet):
            means |= self.family.judge(self._batches(chosen, batch_size))
        return means

    def _batches(self, positions: Sequence[int], size: int) -> Iterator[Batch]:
        assert self.held_out is not None
        fields, frame = list(self.held_out.data.fields), self.job.recipe.frame
        for start in range(0, len(positions), size):
            yield to_device(self.held_out.centred(positions[start : start + size], fields, frame), self.device)

    def _preview(self, stage: Stage, done: int) -> None:
        assert self.held_out is not None and self.tracker is not None
        data, recipe = self.held_out.data, self.job.recipe
        positions = self.held_out.rows_for_sheets(ROWS, recipe.frame)
        [batch] = self._batches(positions, len(positions))
        columns = self.family.preview(batch, torch.Generator().manual_seed(recipe.seed))
        if not columns:
            return
        cells = [[tensors.to_uint8(column[r]) for column in columns.values()] for r in range(len(positions))]
        perceptual = isinstance(recipe, PerceptualRecipe) and recipe.perceptual_layers
        note = "perceptual network with RANDOM weights" if perceptual and self.job.weights == "random" else ""
        title = f"{stage.name}, {done * stage.batch} images"
        names = [f"{data.keys[p]} {self._described(batch, r)}".strip() for r, p in enumerate(positions)]
        sheet = sheets.sheet(cells, names, list(columns), title, note)
        self.tracker.picture(f"{stage.name}-preview", sheet, done * stage.batch)

    def _described(self, batch: Batch, row: int) -> str:
        """What a sample's fields say that are no pictures: its class, its question."""
        assert self.held_out is not None
        found = []
        for name, field in self.held_out.data.fields.items():
            kind = kinds.named(field.kind)
            if not kind.pixels:
                found.append(str(kind.shown(batch[name][row], dict(self.facts.fields.get(name, {})))))
        return " ".join(filter(None, found))


class Window:
    """Means of scalars over the steps since the last `take`. They stay on the device until they are read: a reading a
    step would make a GPU wait for the host."""

    FULL = 100
    """Steps that are kept unread at most."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.seconds: list[float] = []
        self._unread: list[tuple[int, Mapping[str, Tensor]]] = []

    @property
    def full(self) -> bool:
        return len(self._unread) >= self.FULL

    def add(self, step: int, scalars: Mapping[str, Tensor], seconds: float = 0.0) -> None:
        """`seconds`: CPU-seconds that the step took."""
        self.seconds.append(seconds)
        self._unread.append((step, scalars))

    def read(self) -> tuple[int, list[str]] | None:
        """Fetch what is unread, in one go. Returns the first step with scalars that are not finite, and their names."""
        flat = [value.detach() for _, scalars in self._unread for value in scalars.values()]
        values = iter(torch.stack([v.double().to(flat[0].device) for v in flat]).tolist() if flat else [])
        wrong: tuple[int, list[str]] | None = None
        for step, scalars in self._unread:
            read = {name: next(values) for name in scalars}
            names = [name for name, value in read.items() if not math.isfinite(value)]
            if names and wrong is None:
                wrong = step, names
            for name, value in read.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1
        self._unread = []
        return wrong

    def take(self, group: Group) -> tuple[dict[str, float], float]:
        """Means over the steps and the ranks; CPU-seconds of this process a step."""
        means = {name: self.sums[name] / self.counts[name] for name in self.sums}
        seconds = sum(self.seconds) / max(1, len(self.seconds))
        self.sums, self.counts, self.seconds = {}, {}, []
        return group.mean(means), seconds


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
