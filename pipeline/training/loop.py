"""The shared training loop: any family, all its stages, on any number of Ray Train workers.

`fit` runs on the driver, `work` on each worker. The loop owns device, precision, ranks, clock, logging, checkpoints and
resume; a step is the family's own. All state is in the output folder: the same call goes on where the last one ended.
"""

from __future__ import annotations

import math
import os
import signal
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

import models
from models.common.vgg import VGG
from models.family import Batch, Family, Group, PerceptualRecipe, Stage, Table
from pipeline.artifacts import storage
from pipeline.data.shards import DataSet, require_inputs
from pipeline.neighbours import lists
from pipeline.runs import checkpoint
from pipeline.search.bounds import match
from pipeline.style.weights import of_recipe
from pipeline.tracking.journal import Tracker
from pipeline.training import matches, rarity
from pipeline.training.feed import Feed, Images, Sources, join_rows, to_device, whole_batches
from pipeline.training.triplets import Triplets
from pipeline.training.watch import Clock, Watch, Window


def nearest(queries: Tensor, pool: Tensor) -> Tensor:
    """The families' `Match`."""
    return match(queries, pool).index


class Stopped(RuntimeError):
    """SIGTERM or Ctrl-C: the run was saved and can go on."""


FINAL: dict[str, type[Exception]] = {
    "stopped": Stopped,
    "not finite": FloatingPointError,
    "value": ValueError,
    "system": OSError,
}
"""What a worker ends with that another try would not mend."""


@dataclass(frozen=True)
class Run:
    """Where and how a recipe runs. All of it may change on resume."""

    workers: int = 1
    """Ray Train workers; the global batch is split evenly between them. 0: in this process, without Ray."""
    threads: int = 0
    """CPU threads of each worker; 0: this machine's cores / workers."""
    gpu: bool = False
    """One GPU for each worker."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast around the family's update. The weights stay float32."""
    checkpoint_every: int = 500
    """Steps between two checkpoints."""
    keep_last: int = 2
    """Checkpoints kept, besides the best and those at the stages' ends."""
    log_every: int = 10
    """Steps over which logged scalars are averaged."""
    evaluate_every: int = 500
    """Steps between two evaluations on held-out samples, with a sheet of pictures."""
    evaluate_images: int = 64
    """Held-out samples of an evaluation."""
    cache_bytes: int = 1 << 30
    """Decoded images kept in memory by each worker, bytes."""
    max_failures: int = 3
    """Times that lost workers are replaced before the job fails."""

    def __post_init__(self) -> None:
        least = {"checkpoint_every": 1, "log_every": 1, "evaluate_every": 1, "evaluate_images": 1, "keep_last": 1}
        for name in ("workers", "threads", "cache_bytes", "max_failures", *least):
            if getattr(self, name) < least.get(name, 0):
                raise ValueError(f"--run.{name.replace('_', '-')} {getattr(self, name)}: at least {least.get(name, 0)}")


@dataclass(frozen=True)
class Job:
    """One training job: what to train, on what, where to."""

    family: str
    recipe: Any
    data: str
    output: str
    split: str = "train"
    held_out: str = "val"
    neighbours: str = ""
    rarity: str = ""
    matches: str = ""
    weights: str = "random"
    start: dict[str, str] = field(default_factory=dict)
    """Stage -> checkpoint of another run, whose weights take that stage's place."""
    run: Run = Run()
    tracking: str | None = None
    parent: str | None = None
    name: str = "train"
    stop_after: int = 0
    """For tests: end as if by SIGTERM after so many steps in all; 0: never."""


# ---------------------------------------------------------------------------------------------------- the driver's side


def fit(job: Job) -> str:
    """Train all stages, or go on where an earlier call ended. Returns the path of the final weights.

    Raises:
        ValueError: the folder holds another run, or the recipe does not fit the data.
        FloatingPointError: a scalar became NaN or infinite.
        Stopped: ended by SIGTERM or Ctrl-C after a checkpoint.
    """
    final = storage.join(job.output, "weights.pt")
    models.load(job.family).check(job.recipe, None)
    with storage.lease(job.output):
        checkpoint.claim(job.output, job.family, job.recipe, inputs(job))
        done = storage.join(job.output, "weights.json")
        if storage.exists(done) and storage.read_json(done)["recipe"] == checkpoint.recipe_json(job.recipe):
            return final
        storage.remove(storage.join(job.output, "stop"))
        with _stop_on_signal(job.output), _progress(job.output):
            if job.run.workers == 0:
                work(job)
            else:
                _fit_on_ray(job)
    return final


def inputs(job: Job) -> dict[str, Any]:
    """What the run is made of, by content: a resumed run must be given the same."""
    data = DataSet(job.data, job.split)
    require_inputs(data, models.load(job.family).input_kind(job.recipe))
    made: dict[str, Any] = {"dataset": data.fingerprint, "split": job.split, "weights": _perceptual(job)[1]}
    if job.neighbours:
        card = lists.load(job.neighbours).card
        if card["inputs"]["dataset"] != data.fingerprint:
            raise ValueError(
                f"--neighbours {job.neighbours} is of the data set {card['inputs']['dataset'][:12]}, "
                f"but --data {job.data} is {data.fingerprint[:12]}: run jobs.neighbours for it"
            )
        made["neighbours"] = card["content"]
    if job.start:
        made["start"] = {s: storage.sha256_file(path) for s, path in sorted(job.start.items())}
    for name, (_, card) in given(job, data).items():
        made[name] = card["content"]
        if name == "matches" and made.get("start") != {"crn": card["inputs"]["checkpoint"]}:
            raise ValueError(
                f"--matches {job.matches} are samples of the checkpoint with sha256 "
                f"{card['inputs']['checkpoint'][:12]}: begin from it (--start crn CHECKPOINT)"
            )
    return made


def given(job: Job, data: DataSet) -> dict[str, tuple[Table, dict[str, Any]]]:
    """The artifacts of the training set that the job names, with their cards."""
    found = {}
    if job.rarity:
        found["rarity"] = rarity.load(job.rarity, data)
    if job.matches:
        found["matches"] = matches.load(job.matches, data, job.recipe)
    return found


def _perceptual(job: Job) -> tuple[VGG | None, str, str]:
    """The recipe's perceptual network, its weights' identity (empty: the family has none), and their name."""
    if not isinstance(job.recipe, PerceptualRecipe) or not job.recipe.perceptual_layers:
        return None, "", ""
    net, origin = of_recipe(job.weights, job.recipe)
    return net, origin.identity, str(origin)


def _fit_on_ray(job: Job) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from pipeline.artifacts import pool

    pool.start()
    threads = job.run.threads or max(1, (os.cpu_count() or 1) // job.run.workers)
    trainer = TorchTrainer(
        _work_on_ray,
        train_loop_config={"job": replace(job, run=replace(job.run, threads=threads))},
        scaling_config=ScalingConfig(
            num_workers=job.run.workers, use_gpu=job.run.gpu, resources_per_worker={"CPU": threads}
        ),
        # A new name each time: a repeated one makes Ray resume from its own record, and ours is the only record.
        run_config=RunConfig(
            name=uuid.uuid4().hex,
            storage_path=tempfile.gettempdir(),
            failure_config=FailureConfig(max_failures=job.run.max_failures),
        ),
    )
    try:
        failure = trainer.fit().return_value
    except Exception as error:
        _raise_own(error)
        raise
    if failure is not None:
        raise FINAL[failure[0]](failure[1])


def _raise_own(error: BaseException) -> None:
    """Raise what a worker raised instead of Ray's wrapping of it."""
    for failure in (getattr(error, "worker_failures", None) or {}).values():
        cause: BaseException = getattr(failure, "cause", None) or failure
        if isinstance(cause, tuple(FINAL.values())):
            raise cause from error


@contextmanager
def _stop_on_signal(folder: str) -> Iterator[None]:
    """SIGTERM and Ctrl-C ask the workers, wherever they are, to save and end: through a file, which reaches all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: object) -> None:
        storage.publish(storage.join(folder, "stop"), b"")

    old = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def _progress(folder: str) -> Iterator[None]:
    """A bar with images/s and the time left, drawn from what rank 0 writes to progress.json."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    end = threading.Event()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} images, {task.fields[rate]:.1f} images/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )

    def follow() -> None:
        tasks: dict[str, Any] = {}
        path = storage.join(folder, "progress.json")
        while not end.wait(10.0 if storage.is_remote(folder) else 1.0):
            if not storage.exists(path):
                continue
            now = storage.read_json(path)
            if now["stage"] not in tasks:
                tasks[now["stage"]] = bar.add_task(now["stage"], total=now["of"], rate=0.0)
            bar.update(tasks[now["stage"]], completed=now["images"], rate=now["rate"])

    thread = threading.Thread(target=follow, daemon=True)
    storage.remove(storage.join(folder, "progress.json"))
    with bar:
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()
    storage.remove(storage.join(folder, "progress.json"))


# ---------------------------------------------------------------------------------------------------- the worker's side


def _work_on_ray(config: dict[str, Any]) -> tuple[str, str] | None:
    """`work`; what another try would not mend is returned, because Ray Train tries again whatever is raised.

    But only what ends all workers alike: one that returned while another waits for it would leave that waiting.
    """
    try:
        work(config["job"])
    except (ConnectionError, TimeoutError):
        raise
    except tuple(FINAL.values()) as error:
        if Group().on and not isinstance(error, Stopped):
            raise
        return next(name for name, kind in FINAL.items() if isinstance(error, kind)), str(error)
    return None


def work(job: Job) -> None:
    """Train on this worker; every worker of the group runs the same lines."""
    if job.run.threads:
        torch.set_num_threads(job.run.threads)
    group = Group()
    device = torch.device("cuda", torch.cuda.current_device()) if job.run.gpu else torch.device("cpu")
    tracker = None
    if group.rank == 0:
        tracker = Tracker(job.output, job.tracking, job="train", name=job.name, parent=job.parent, tags=_tags(job))
    with tracker or nullcontext():
        Trainer(job, group, device, tracker).run()
    if group.on:
        dist.barrier()


def _tags(job: Job) -> dict[str, str]:
    return {"family": job.family, "weights": _perceptual(job)[2]}


def build(job: Job, group: Group) -> Family:
    """The family of a job, with its perceptual network where it has one."""
    family: Family = models.load(job.family).build(job.recipe, group, _perceptual(job)[0])
    return family


class Trainer:
    """One worker's part in a run: read `run` first."""

    def __init__(self, job: Job, group: Group, device: torch.device, tracker: Tracker | None) -> None:
        self.job, self.group, self.device, self.tracker = job, group, device, tracker
        self.folder = job.output
        self.images = Images(DataSet(job.data, job.split), job.run.cache_bytes)
        near = lists.load(job.neighbours) if job.neighbours else None
        self.triplets = Triplets(near) if near else None
        self.sampler = near.card["content"] if near else ""
        self.family = build(job, group).to(device)
        for name, (table, _) in given(job, self.images.data).items():
            self.family.take(name, table)
        self.watch = Watch(job, self.family, device, tracker)
        self.tables: dict[str, Table] = {}
        """Stage -> what it harvested, or its latest refresh."""
        self.finished: dict[str, int] = {}
        self.step = 0

    def run(self) -> None:
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
        feed = Feed(
            sources,
            family.streams(stage.name),
            stage.name,
            recipe.seed,
            recipe.frame,
            resumed["counts"] if resumed else None,
            self.group.rank,
            self.group.world,
        )
        window, clock = Window(), Clock(self.folder, stage, total, done, self.group.rank)

        def draw(name: str) -> Batch:
            return to_device(feed.draw(name), self.device)

        try:
            while done < total:
                with torch.autocast(self.device.type, torch.bfloat16, enabled=run.precision == "bf16"):
                    if stage.refresh_every and done % stage.refresh_every == 0:
                        table = family.refresh(draw, self.tables, nearest, done)
                        if table is not None:
                            self.tables[stage.name] = table
                            feed.renew()
                    scalars = family.update(draw, done * stage.batch)
                self._stop_on_nan(scalars, stage, done)
                window.add(scalars)
                done, self.step = done + 1, self.step + 1
                clock.tick(done)
                if done % run.log_every == 0 or done == total:
                    self.watch.log(stage, window.take(self.group), done, clock.rate)
                best = None
                if done % run.evaluate_every == 0 or done == total:
                    best = self.watch.look(stage, done)
                stop = self._asked_to_stop()
                if done % run.checkpoint_every == 0 or done == total or stop or best is not None:
                    self._save(stage, done, feed.counts, best)
                if stop:
                    raise Stopped(f"stopped at step {self.step}; {self.folder} goes on with the same command")
        finally:
            feed.close()

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

    def _save(self, stage: Stage, done: int, counts: Mapping[str, int], best: float | None) -> None:
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

            local = tempfile.mkdtemp(prefix="variegate-") if storage.is_remote(self.folder) else self.folder
            model = storage.join(local, "model")
            storage.remove(model)  # of a run that was lengthened since
            package.save(self.folder, model)
            self.tracker.model(model, f"variegate-{self.job.family}")

    # --------------------------------------------------------------------------------------------------------- plumbing

    def _stop_on_nan(self, scalars: Mapping[str, float], stage: Stage, done: int) -> None:
        wrong = [name for name, value in scalars.items() if not math.isfinite(value)]
        if wrong:
            last = checkpoint.latest_path(self.folder) or "none yet"
            raise FloatingPointError(
                f"not finite at step {done} of stage {stage.name}: {', '.join(wrong)}. Last checkpoint: {last}. "
                "Lower the learning rate, or train in fp32"
            )

    def _asked_to_stop(self) -> bool:
        due = 0 < self.job.stop_after <= self.step
        # An object store is asked once in 20 steps at most: each question is a request.
        if not due and (not storage.is_remote(self.folder) or self.step % 20 == 0):
            due = storage.exists(storage.join(self.folder, "stop"))
        if not self.group.on:
            return due
        flag = torch.tensor([float(due)], device=self.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)  # all ranks stop at the same step, or none
        return bool(flag.item())
