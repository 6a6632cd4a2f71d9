"""Ray, started once and quietly; a pool of actors through which units of work flow, each done exactly once.

The unit (a shard, a tile) must be idempotent: when an actor dies, its unit is given to a fresh one.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_DEATHS = 5
"""A unit whose actor died so often stops the job: it is the unit that kills (memory), not chance."""
NODE_CHECK_SECONDS = 10.0
"""Without a result for so long it is asked whether there is a host left: without any, a wait would never end."""


def peak_kb() -> int:
    """Most that this process has held in memory so far, mapped files included, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def start(cpus: int | None = None) -> None:
    """Join the cluster of RAY_ADDRESS (set within `ray job submit`), else start one inside this process; once.

    Raises:
        ConnectionError: RAY_ADDRESS names a cluster that cannot be reached.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
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
    # An embedded cluster listens on loopback only and ends with this process: no token.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
    )


class _Worker:
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
) -> Iterator[tuple[int, Result]]:
    """Run `make(*arguments)(item)` for every item on a pool of `workers` Ray actors; yield (item's number, result) as
    they end. `make` is called once per actor (a network is loaded once); `threads` are the actor's CPUs.

    An actor that dies is replaced and its item done again; an exception of the work itself is raised here as it is.
    Items go to actors that have a place: those beyond the cluster's CPUs wait for one, and nothing waits for them.

    Raises:
        ValueError: more threads than this machine has CPUs.
    """
    start()
    if not os.environ.get("RAY_ADDRESS") and threads > (there := ray.cluster_resources().get("CPU", 0)):
        raise ValueError(f"--threads {threads}: this machine has {there:.0f} CPUs; give at most so many")
    actor_class: Any = ray.remote(_Worker).options(
        num_cpus=threads, num_gpus=gpus, runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads)}}
    )

    def fresh() -> Any:
        return actor_class.remote(make, list(arguments), threads)

    waiting = list(range(len(items)))[::-1]
    deaths = dict.fromkeys(range(len(items)), 0)
    starting = {actor.ready.remote(): actor for actor in (fresh() for _ in range(min(workers, len(items))))}
    idle: list[Any] = []
    running: dict[Any, tuple[int, Any]] = {}
    lost = 0
    try:
        while waiting or running:
            while idle and waiting:
                actor, number = idle.pop(), waiting.pop()
                running[actor.run.remote(items[number])] = (number, actor)
            ready, _ = ray.wait([*running, *starting], num_returns=1, timeout=NODE_CHECK_SECONDS)
            if not ready:
                if not any(node["Alive"] for node in ray.nodes()):
                    raise ConnectionError("Ray has no host left alive; the same command again goes on where this ended")
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
