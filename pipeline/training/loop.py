"""The shared training loop: any family, all its stages, on any number of Ray Train workers.

`fit` runs on the driver, `work` on each worker. The loop owns device, precision, ranks, clock, logging, checkpoints and
resume; a step is the family's own. All state is in the output folder: the same call goes on where the last one ended.
"""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist

import models
from models.group import Group
from pipeline.artifacts import lease, storage
from pipeline.artifacts.progress import Progress
from pipeline.artifacts.scratch import Scratch
from pipeline.data.shards import DataSet, facts_of
from pipeline.runs import checkpoint
from pipeline.tracking.journal import Tracker
from pipeline.training import memory
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
        Stopped: ended by SIGTERM after a checkpoint.
        KeyboardInterrupt: ended by Ctrl-C after a checkpoint; by a second Ctrl-C at once.
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
        with _stop_on_signal(job.output) as asked, _progress(job.output):
            try:
                if job.run.workers == 0:
                    work(job)
                else:
                    with Scratch("train") as folder:
                        _fit_on_ray(job, folder)
            except Stopped as stopped:
                if signal.SIGINT in asked:
                    raise KeyboardInterrupt(str(stopped)) from None
                raise
    return final


def _fit_on_ray(job: Job, folder: str) -> None:
    """`folder`: a local one for Ray Train's own record, which nothing reads."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from pipeline.artifacts import pool

    pool.start()
    threads = job.run.threads or max(1, (os.cpu_count() or 1) // job.run.workers)
    trainer = TorchTrainer(
        _work_on_ray,
        # The recipe as JSON: Ray's own processes need not know the family's module.
        train_loop_config={
            "job": replace(job, recipe=None, run=replace(job.run, threads=threads)),
            "recipe": checkpoint.recipe_json(job.recipe),
        },
        scaling_config=ScalingConfig(
            num_workers=job.run.workers, use_gpu=job.run.gpu, resources_per_worker={"CPU": threads}
        ),
        # A new name each time: a repeated one makes Ray resume from its own record, and ours is the only record.
        run_config=RunConfig(
            name=uuid.uuid4().hex,
            storage_path=folder,
            failure_config=FailureConfig(max_failures=job.run.max_failures),
            worker_runtime_env={"env_vars": {FAMILIES: os.environ[FAMILIES]}} if FAMILIES in os.environ else None,
        ),
    )
    try:
        # Off the main thread, where Ray Train would put its own handler in the place of ours: it ends the workers at
        # once, before they have saved. Ray's processes do not see Ctrl-C themselves.
        failure = _on_a_thread(trainer.fit).return_value
    except Exception as error:
        _raise_own(error)
        raise
    if failure is not None:
        raise FINAL[failure[0]](failure[1])


def _on_a_thread(call: Callable[[], Any]) -> Any:
    """What `call` returns or raises; meanwhile signals are handled."""
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()  # a daemon: a second Ctrl-C does not wait for it
    return done.result()


def _raise_own(error: BaseException) -> None:
    """Raise what a worker raised instead of Ray's wrapping of it."""
    for failure in (getattr(error, "worker_failures", None) or {}).values():
        cause: BaseException = getattr(failure, "cause", None) or failure
        if isinstance(cause, tuple(FINAL.values())):
            raise cause from error


@contextmanager
def _stop_on_signal(folder: str) -> Iterator[list[int]]:
    """SIGTERM and Ctrl-C ask the workers, wherever they are, to save and end: through a file, which reaches all. Gives
    the signals that came."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: object) -> None:
        if number == signal.SIGINT and number in asked:
            raise KeyboardInterrupt
        asked.append(number)
        storage.publish(storage.join(folder, "stop"), b"")

    old = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def _progress(folder: str) -> Iterator[None]:
    """Shows the stage, its images, their speed and the time left, as rank 0 writes them to progress.json."""
    end, path = threading.Event(), storage.join(folder, "progress.json")

    def follow(shown: Progress) -> None:
        while not end.wait(10.0 if storage.is_remote(folder) else 1.0):
            if storage.exists(path):
                now = storage.read_json(path)
                shown.set(now["images"], now["of"], now["stage"], now["rate"])

    storage.remove(path)
    with Progress("train", unit="images") as shown:
        thread = threading.Thread(target=follow, args=(shown,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()
            storage.remove(path)


# ---------------------------------------------------------------------------------------------------- the worker's side


def _work_on_ray(config: dict[str, Any]) -> tuple[str, str] | None:
    """`work`; what another try would not mend is returned, because Ray Train tries again whatever is raised.

    But only what ends all workers alike: one that returned while another waits for it would leave that waiting.
    """
    try:
        recipe = checkpoint.recipe_from(models.load(config["job"].family).Config, config["recipe"])
        work(replace(config["job"], recipe=recipe))
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
    if not job.run.gpu:
        memory.keep_freed()
    group = Group(accumulate=job.run.accumulate)
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
