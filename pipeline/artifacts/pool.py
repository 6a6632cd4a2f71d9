"""Ray, started once and quietly; a pool of actors through which units of work flow, each done exactly once.

The unit (a shard, a tile) must be idempotent: when an actor dies, its unit is given to a fresh one.

Why not Ray's own (both tried on 2.60): with `max_restarts`, a job with more actors than the cluster has places hangs
once one of them dies; `ray.util.ActorPool` hands units to actors that have no place yet, where they wait for ever while
others are idle.
"""

from __future__ import annotations

import logging
import os
import resource
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from pipeline.artifacts.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_DEATHS = 5
"""A unit whose actor died so often stops the job: it is the unit that kills (memory), not chance."""
NODE_CHECK_SECONDS = 10.0
"""Without a result for so long it is asked whether there is a host left: without any, a wait would never end."""
STARTS = 3
"""Ray gives up after 30 seconds, which a busy machine may need to start it."""
PLACE_SECONDS = 60.0
"""When no actor has had a place for so long, units are done in this process."""


def peak_kb() -> int:
    """Most that this process has held in memory so far, mapped files included, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def start(cpus: int | None = None) -> None:
    """Join the cluster of RAY_ADDRESS (set within `ray job submit`), else start one inside this process; once.

    Ray listens on all of the machine's interfaces, and whoever reaches it can run code as this user. The embedded
    cluster therefore asks for a token: a random one, in the environment of this process and its children alone. A
    cluster that is joined keeps its own mode and token (RAY_AUTH_MODE, RAY_AUTH_TOKEN). RAY_AUTH_MODE=disabled, set by
    hand, is left as it is.

    Raises:
        ConnectionError: RAY_ADDRESS names a cluster that cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray  # takes a second, which work without actors need not wait for

    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    if address:
        try:
            host, _, port = address.rpartition(":")
            if host and port.isdigit() and "/" not in host:  # Ray itself would try for minutes
                socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
            ray.init(address=address, logging_level=logging.ERROR)
        except (OSError, RuntimeError) as error:
            raise ConnectionError(f"RAY_ADDRESS={address}: no cluster answers there ({error})") from error
        return
    # Found in the environment, the token is not written to a file (Ray's own goes to ~/.ray, readable by all). With the
    # mode left open `ray.init` turns tokens on; set here it would not be seen, as Ray read it when it was imported.
    _own_token()
    # The workers that Ray starts ahead inherit it. With a `runtime_env` they could not be used, and each actor would
    # wait for another one to start.
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    with _environment("OMP_NUM_THREADS", "1"):
        for again in reversed(range(STARTS)):
            try:
                ray.init(address="local", num_cpus=cpus, **options)
                return
            except Exception as error:  # Ray raises no class of its own
                ray.shutdown()
                if not again or "timed out during startup" not in str(error):
                    raise


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _own_token() -> None:
    """A token of this process: not of a cluster that its user may have access to, nor of the process that began it."""
    global _token
    if not _token:  # once: Ray keeps what it has read
        _token = secrets.token_hex(32)
    os.environ["RAY_AUTH_TOKEN"] = _token
    os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
    if os.environ.get("RAY_AUTH_MODE") != "disabled":
        os.environ.pop("RAY_AUTH_MODE", None)


_token = ""


class _Worker:
    """An actor, or the same work in this process."""

    def __init__(self, make: Callable[..., Callable[[Any], Any]], arguments: Sequence[Any], threads: int) -> None:
        self.make, self.arguments, self.threads = make, arguments, threads
        self.work: Callable[[Any], Any] | None = None

    def ready(self) -> None:
        """Answers once the actor has been placed on a host."""

    def run(self, item: Any) -> Any:
        if self.work is None:  # here, not in __init__: what it raises there would look like the actor's death
            import torch

            torch.set_num_threads(self.threads)
            self.work = self.make(*self.arguments)
        return self.work(item)


def each(
    make: Callable[..., Callable[[Item], Result]],
    arguments: Sequence[Any],
    items: Sequence[Item],
    workers: int,
    threads: int = 1,
    gpus: float = 0,
    what: str = "",
    unit: str = "units",
) -> Iterator[tuple[int, Result]]:
    """Run `make(*arguments)(item)` for every item on a pool of `workers` Ray actors; yield (item's number, result) as
    they end. `make` is called once per actor (a network is loaded once); `threads` are the actor's CPUs.

    workers: 0: in this process, one after the other, without Ray. what: what is done to the items (called `unit`), as
    it is shown when it takes longer than some seconds; empty: nothing is shown.

    An actor that dies is replaced and its item done again; an exception of the work itself is raised here as it is.
    Items go to actors that have a place: those beyond the cluster's CPUs wait for one, and nothing waits for them. When
    no actor has a place for PLACE_SECONDS (its host was lost, others fill the cluster), this process does the work,
    unless it takes a GPU.

    Raises:
        ValueError: more threads than this machine has CPUs, or GPUs than it has.
    """
    with Progress(what, len(items), unit) as progress:
        if gpus and not workers:
            _need_gpu(gpus)
        done = _on_actors(make, arguments, items, workers, threads, gpus) if workers else None
        for number, result in done or _here(make, arguments, items, threads):
            progress.advance()
            yield number, result


def _need_gpu(gpus: float) -> None:
    import torch

    if not torch.cuda.is_available():
        raise ValueError(f"--gpus {gpus:g}: PyTorch {torch.__version__} finds none here")


def _here(
    make: Callable[..., Callable[[Item], Result]], arguments: Sequence[Any], items: Sequence[Item], threads: int
) -> Iterator[tuple[int, Result]]:
    own = _Worker(make, arguments, threads)
    for number, item in enumerate(items):
        with limited(threads):
            result = own.run(item)
        yield number, result


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """As many threads as an actor has: the number of threads of a product may show in its last bits."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    with threadpool_limits(threads):
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _on_actors(
    make: Callable[..., Callable[[Item], Result]],
    arguments: Sequence[Any],
    items: Sequence[Item],
    workers: int,
    threads: int,
    gpus: float,
) -> Iterator[tuple[int, Result]]:
    start()
    import ray

    if not os.environ.get("RAY_ADDRESS") and threads > (there := ray.cluster_resources().get("CPU", 0)):
        raise ValueError(f"--threads {threads}: this machine has {there:.0f} CPUs; give at most so many")
    if not os.environ.get("RAY_ADDRESS") and gpus > (there := ray.cluster_resources().get("GPU", 0)):
        raise ValueError(f"--gpus {gpus:g}: Ray finds {there:.0f} GPUs on this machine; give at most so many")
    # One thread is what workers of the embedded cluster begin with.
    own_environment = threads > 1 or bool(os.environ.get("RAY_ADDRESS"))
    environment = {"env_vars": {"OMP_NUM_THREADS": str(threads)}} if own_environment else None
    actor_class: Any = ray.remote(_Worker).options(num_cpus=threads, num_gpus=gpus, runtime_env=environment)

    def fresh() -> Any:
        return actor_class.remote(make, list(arguments), threads)

    waiting = list(range(len(items)))[::-1]
    deaths = dict.fromkeys(range(len(items)), 0)
    starting = {actor.ready.remote(): actor for actor in (fresh() for _ in range(min(workers, len(items))))}
    idle: list[Any] = []
    running: dict[Any, tuple[int, Any]] = {}
    lost = 0
    own, placed = _Worker(make, arguments, threads), time.monotonic()
    try:
        while waiting or running:
            while idle and waiting:
                actor, number = idle.pop(), waiting.pop()
                running[actor.run.remote(items[number])] = (number, actor)
            if running:
                placed = time.monotonic()
            left = placed + PLACE_SECONDS - time.monotonic()
            patience = min(NODE_CHECK_SECONDS, max(0.1, left))
            ready, _ = ray.wait([*running, *starting], num_returns=1, timeout=patience)
            if not ready:
                if not any(node["Alive"] for node in ray.nodes()):
                    raise ConnectionError("Ray has no host left alive; the same command again goes on where this ended")
                if left <= 0 and not running and not gpus:
                    number = waiting.pop()
                    with limited(threads):
                        result = own.run(items[number])
                    yield number, result
                continue
            [reference] = ready
            if reference in starting:
                actor = starting.pop(reference)
                try:
                    ray.get(reference)
                    idle.append(actor)
                except ray.exceptions.RayActorError as error:
                    lost += 1
                    if lost >= MAX_DEATHS:
                        raise RuntimeError(f"{lost} workers died before they had begun") from error
                    actor = fresh()
                    starting[actor.ready.remote()] = actor
                continue
            number, actor = running.pop(reference)
            try:
                result = ray.get(reference)
            except ray.exceptions.RayActorError as error:
                deaths[number] += 1
                if deaths[number] >= MAX_DEATHS:
                    raise RuntimeError(f"unit {number}: its worker died {MAX_DEATHS} times") from error
                waiting.append(number)
                actor = fresh()
                starting[actor.ready.remote()] = actor
                continue
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error  # the work's own exception, with the remote traceback as its context
            idle.append(actor)
            yield number, result
    finally:
        for actor in [*idle, *starting.values(), *(a for _, a in running.values())]:
            ray.kill(actor)
