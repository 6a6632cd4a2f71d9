"""The pool of actors: all items are done by those that have a place."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from pipeline.artifacts import pool


def test_more_workers_than_the_cluster_has_cpus(ray_cluster: None) -> None:
    """Four CPUs: of seven actors of one CPU three wait, of three of two CPUs one; nobody waits for those."""

    def make() -> Callable[[int], tuple[int, int]]:
        return lambda item: (item * item, os.getpid())

    for count, threads in ((7, 1), (3, 2)):
        found = dict(pool.each(make, [], list(range(20)), count, threads))
        assert [found[i][0] for i in range(20)] == [i * i for i in range(20)]
        assert 1 <= len({process for _, process in found.values()}) <= 4 // threads


def test_more_threads_than_cpus_is_said(ray_cluster: None) -> None:
    with pytest.raises(ValueError, match="--threads 5: this machine has 4 CPUs"):
        list(pool.each(lambda: lambda item: item, [], [1], 1, threads=5))
