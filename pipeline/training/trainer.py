"""One worker of a training run: stages, steps, checkpoints, harvest, resume."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

import models
from models.family import Batch, Draw, Stage, Table
from models.group import Group
from pipeline.artifacts import storage
from pipeline.data.images import Images, whole_batches
from pipeline.data.shards import DataSet, facts_of
from pipeline.runs import checkpoint
from pipeline.search.match import match
from pipeline.tracking.journal import Tracker
from pipeline.training.feed import Feed, Sources, join_rows, to_device
from pipeline.training.inputs import build, given, inputs
from pipeline.training.job import Job
from pipeline.training.triplets import Triplets
from pipeline.training.watch import Clock, Watch, Window

REMOTE_SECONDS = 5.0
"""An object store is asked no more often whether to stop: each question is a request."""


def nearest(queries: Tensor, pool: Tensor) -> Tensor:
    """The families' `Match`."""
    return match(queries, pool).index


class Stopped(RuntimeError):
    """SIGTERM or Ctrl-C: the run was saved and can go on."""


class _Interrupted(BaseException):
    """Asked to stop within a refresh. Not an Exception: a family's own handlers must not keep it."""


class Trainer:
    """One worker's part in a run: read `run` first."""

    def __init__(self, job: Job, group: Group, device: torch.device, tracker: Tracker | None) -> None:
        self.job, self.group, self.device, self.tracker = job, group, device, tracker
        self.folder = job.output
        data = DataSet(job.data, job.split)
        self.facts = facts_of(data)
        self.images = Images.of(
            data, job.recipe, models.load(job.family).fields(job.recipe), self.facts, job.run.cache_bytes
        )
        self.family = build(job, group, self.facts).to(device)
        if group.accumulate > 1 and not self.family.accumulates:
            raise ValueError(
                f"--run.accumulate {group.accumulate}: family {job.family} takes its batches whole; leave it out"
            )
        self.triplets: Triplets | None = None
        self.sampler = ""
        for name, one in given(job, data).items():
            if one.triplets is not None:
                self.triplets, self.sampler = one.triplets, one.content
            if one.table is not None:
                self.family.take(name, one.table)
        self.watch = Watch(job, self.family, self.facts, device, tracker)
        self.tables: dict[str, Table] = {}
        """Stage -> what it harvested, or its latest refresh."""
        self.finished: dict[str, int] = {}
        self._ask_again = 0.0
        self.step = 0

    def run(self) -> None:
        if not self.job.start and not any(stage.images for stage in self.family.stages):
            recipe = checkpoint.recipe_json(self.job.recipe)
            lengths = dict.fromkeys((*self.job.recipe.LENGTHS, *self.job.recipe.SCALED))
            given = ", ".join(f"--{name.replace('_', '-')} {recipe[name]}" for name in lengths)
            raise ValueError(f"nothing would be trained: {given}")
        state = checkpoint.latest(self.folder)
        if state is not None:
            self._restore(state)
        if self.tracker:
            data = self.images.data
            self.tracker.parameters({**checkpoint.recipe_json(self.job.recipe), **asdict(self.job.run)})
            self.tracker.dataset(data.root.rsplit("/", 1)[-1], data.fingerprint, data.root, "training")
        index = 0
        while index < len(self.family.stages):  # a stage's length may be known only after the one before
            stage = self.family.stages[index]
            if stage.name in self.job.start and stage.name not in self.finished and state is None:
                self._take_over(stage.name, self.job.start[stage.name])
            elif stage.name not in self.finished:
                resumed = state if state is not None and state["stage"] == stage.name else None
                if stage.images:  # entering one may begin a network anew: nothing would train it
                    self.train(stage, resumed)
                self._finish(stage)
            index += 1
        self._publish_final()

    def train(self, stage: Stage, resumed: checkpoint.State | None) -> None:
        family, run = self.family, self.job.run
        family.enter(stage.name)
        if resumed is None:
            self.group.share(family)
        else:
            family.load_state_dict(resumed["family"])  # again: entering a stage may begin a network anew
            family.load_training_state(resumed["training"])
        done = int(resumed["stage_step"]) if resumed else 0
        total = math.ceil(stage.images / stage.batch)
        sources = Sources(self.images, self.triplets, self.tables, self.sampler)
        recipe = self.job.recipe
        self._check_micro_batches(stage)
        feed = Feed(
            sources,
            family.streams(stage.name),
            stage.name,
            recipe.seed,
            recipe.frame,
            resumed["counts"] if resumed else None,
            self.group.rank,
            self.group.world,
            pinned=self.device.type == "cuda",
        )
        window, clock = Window(), Clock(self.folder, stage, total, done, self.group.rank)

        def draw(name: str) -> Batch:
            return to_device(feed.draw(name), self.device)

        try:
            while done < total:
                # No cache: within an update G is trained by the D that has moved, not by a copy from before.
                bf16, began = run.precision == "bf16", time.process_time()
                with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
                    if stage.refresh_every and done % stage.refresh_every == 0:
                        self._refresh(stage, done, feed, draw)
                    scalars = family.update(draw, done * stage.batch)
                window.add(done, scalars, time.process_time() - began)
                done, self.step = done + 1, self.step + 1
                clock.tick(done)
                log = done % run.log_every == 0 or done == total
                look = done % run.evaluate_every == 0 or done == total
                stop = self._asked_to_stop()
                save = done % run.checkpoint_every == 0 or done == total or stop
                if log or look or save or window.full:
                    self._stop_on_nan(window.read(), stage)
                if log:
                    self.watch.log(stage, *window.take(self.group), done, clock.rate)
                best = self.watch.look(stage, done) if look else None
                if save or best is not None:
                    self._save(stage, done, feed.counts, best)
                if stop:
                    raise self._stopped()
        finally:
            feed.close()

    def _check_micro_batches(self, stage: Stage) -> None:
        cuts = self.group.accumulate
        for name, stream in self.family.streams(stage.name).items():
            if cuts > 1 and stream.batch % (self.group.pieces * stream.unit):
                unit = f" in units of {stream.unit}" if stream.unit > 1 else ""
                raise ValueError(
                    f"--run.accumulate {cuts}: batch {stream.batch} of stream {name!r} is not divisible by "
                    f"{self.group.world} workers x {cuts}{unit}"
                )

    def _refresh(self, stage: Stage, done: int, feed: Feed, draw: Draw) -> None:
        """Renew the family's matches. Asked to stop within it, the run is saved as it was before: the next start does
        it anew, from the same draws."""
        counts = dict(feed.counts)

        def pause() -> None:
            if self._asked_to_stop():
                raise _Interrupted

        try:
            table = self.family.refresh(draw, self.tables, nearest, done, pause)
        except _Interrupted:
            self._save(stage, done, counts, None)
            raise self._stopped() from None
        if table is not None:
            self.tables[stage.name] = table
            feed.renew()

    def _stopped(self) -> Stopped:
        return Stopped(f"stopped at step {self.step}; {self.folder} goes on with the same command")

    def _finish(self, stage: Stage) -> None:
        """Harvest, and keep the stage's result: a later run can start `--start` from it."""
        batches = whole_batches(self.images, stage.batch, self.job.recipe.frame, self.group.rank, self.group.world)
        mine = self.family.harvest(stage.name, (to_device(b, self.device) for b in batches))
        self.tables.pop(stage.name, None)  # matches end with their stage
        if mine is not None:
            parts: list[Any] = [mine]
            if self.group.on:
                parts = [None] * self.group.world
                dist.all_gather_object(parts, mine)
            self.tables[stage.name] = join_rows(parts, len(self.images.data), stage.batch)
            self.family.adopt(stage.name, self.tables[stage.name])
        self.finished[stage.name] = stage.images
        if self.group.rank == 0:
            state = {"family": self.family.state_dict(), "tables": self.tables}
            checkpoint.publish(checkpoint.stage_path(self.folder, stage.name), state, {"stage": stage.name})

    def _take_over(self, stage: str, path: str) -> None:
        """Put another run's weights in the place of training `stage`."""
        there = checkpoint.load(path)["family"]
        prefixes = self.family.parts(stage)
        own = self.family.state_dict()
        taken = {k: v for k, v in there.items() if k.startswith(prefixes)}
        wrong = [k for k in taken if k not in own or own[k].shape != taken[k].shape]
        if not taken or wrong:
            raise ValueError(
                f"--start {stage} {path}: its weights do not fit this recipe ({', '.join(wrong[:3]) or 'none'})"
            )
        self.family.load_state_dict({**own, **taken})
        self.finished[stage] = 0

    def _save(self, stage: Stage, done: int, counts: Mapping[str, int], best: tuple[str, float] | None) -> None:
        if self.group.rank == 0:
            state = {
                "family": self.family.state_dict(),
                "training": self.family.training_state(),
                "tables": self.tables,
                "stage": stage.name,
                "stage_step": done,
                "step": self.step,
                "counts": dict(counts),
                "finished": dict(self.finished),
            }
            facts = {"stage": stage.name, "images": done * stage.batch}
            checkpoint.save(self.folder, self.step, state, facts, self.job.run.keep_last, best)

    def _restore(self, state: checkpoint.State) -> None:
        self.tables, self.step, self.finished = dict(state["tables"]), int(state["step"]), dict(state["finished"])
        for stage in self.family.stages:
            if self.finished.get(stage.name) and stage.images > self.finished[stage.name]:
                raise ValueError(
                    f"stage {stage.name!r} was finished at {self.finished[stage.name]} images and later stages stand "
                    f"on it: to lengthen it, start a new run (with --start for the stages before it)"
                )
        for name in self.finished.keys() & self.tables.keys():
            self.family.adopt(name, self.tables[name])
        self.family.load_state_dict(state["family"])

    def _publish_final(self) -> None:
        if self.group.rank == 0:
            recipe = checkpoint.recipe_json(self.job.recipe)
            state = {"family": self.family.state_dict()}
            facts = {"family": self.job.family, "recipe": recipe, "inputs": inputs(self.job)}
            checkpoint.publish(storage.join(self.folder, "weights"), state, facts)
        if self.tracker and self.job.tracking:
            from pipeline.runs import package  # MLflow takes seconds to import

            model = storage.join(self.tracker.local, "model")
            storage.remove(model)  # of a run that was lengthened since
            package.save(self.folder, model)
            self.tracker.model(model, f"variegate-{self.job.family}")

    # --------------------------------------------------------------------------------------------------------- plumbing

    def _stop_on_nan(self, found: tuple[int, list[str]] | None, stage: Stage) -> None:
        """`found`: the first step with scalars that are not finite, and their names."""
        if found is not None:
            step, wrong = found
            last = checkpoint.latest_path(self.folder) or "none yet"
            raise FloatingPointError(
                f"not finite at step {step} of stage {stage.name}: {', '.join(wrong)}. Last checkpoint: {last}. "
                "Lower the learning rate, or train in fp32"
            )

    def _asked_to_stop(self) -> bool:
        due = 0 < self.job.stop_after <= self.step
        now = time.monotonic()
        if not due and now >= self._ask_again:
            due = storage.exists(storage.join(self.folder, "stop"))
            self._ask_again = now + (REMOTE_SECONDS if storage.is_remote(self.folder) else 0.0)
        if not self.group.on:
            return due
        flag = torch.tensor([float(due)], device=self.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)  # all ranks stop at the same step, or none
        return bool(flag.item())
