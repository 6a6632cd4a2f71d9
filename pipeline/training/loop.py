"""The shared training loop: any family, all its stages, on any number of Ray Train workers.

`fit` runs on the driver, `work` on each worker. The loop owns device, precision, ranks, clock, logging, checkpoints and
resume; a step is the family's own. All state is in the output folder: the same call goes on where the last one ended.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist

import models
from models.group import Group
from pipeline.artifacts import lease, storage
from pipeline.data.shards import DataSet, facts_of
from pipeline.runs import checkpoint
from pipeline.tracking.journal import Tracker
from pipeline.training.inputs import inputs, perceptual
from pipeline.training.job import Job
from pipeline.training.trainer import Stopped, Trainer

FINAL: dict[str, type[Exception]] = {
    "stopped": Stopped,
    "not finite": FloatingPointError,
    "value": ValueError,
    "system": OSError,
}
"""What a worker ends with that another try would not mend."""


FAMILIES = "VARIEGATE_FAMILIES"
"""Environment variable that workers need to find families outside `models/`."""


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
    with lease.lease(job.output):
        made_of = inputs(job)
        checkpoint.claim(job.output, job.family, job.recipe, made_of, facts_of(DataSet(job.data, job.split)))
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
            worker_runtime_env={"env_vars": {FAMILIES: os.environ[FAMILIES]}} if FAMILIES in os.environ else None,
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
    return {"family": job.family, "weights": perceptual(job)[2]}
