"""The pool of actors: all items are done by those that have a place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.artifacts import pool

REPOSITORY = Path(__file__).parents[3]


def test_more_workers_than_the_cluster_has_cpus(ray_cluster: None) -> None:
    """Four CPUs: of five actors of one CPU one waits, of three of two CPUs one; nobody waits for those."""

    def make() -> Callable[[int], tuple[int, int]]:
        return lambda item: (item * item, os.getpid())

    for count, threads in ((5, 1), (3, 2)):
        found = dict(pool.each(make, [], list(range(20)), count, threads))
        assert [found[i][0] for i in range(20)] == [i * i for i in range(20)]
        assert 1 <= len({process for _, process in found.values()}) <= 4 // threads


def test_more_threads_than_cpus_is_said(ray_cluster: None) -> None:
    with pytest.raises(ValueError, match="--threads 5: this machine has 4 CPUs"):
        list(pool.each(lambda: lambda item: item, [], [1], 1, threads=5))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_gpus_that_are_not_there_are_said(ray_cluster: None) -> None:
    """An actor would wait for one for ever; without actors PyTorch would end with a traceback."""
    with pytest.raises(ValueError, match="--gpus 1: Ray finds 0 GPUs on this machine"):
        list(pool.each(lambda: lambda item: item, [], [1], 1, gpus=1))
    with pytest.raises(ValueError, match=r"--gpus 0\.5: PyTorch .* finds none here"):
        list(pool.each(lambda: lambda item: item, [], [1], 0, gpus=0.5))


def make_squares() -> Callable[[int], tuple[int, int, int]]:
    return lambda item: (item * item, os.getpid(), torch.get_num_threads())


def test_no_workers_is_this_process_without_ray() -> None:
    """In a process of its own, where nothing has imported Ray; as many threads as an actor has, and back again."""
    code = """
import sys, torch
from pipeline.artifacts import pool
from tests.pipeline.artifacts.test_pool import make_squares
import os
torch.set_num_threads(2)
found = list(pool.each(make_squares, [], [3, 4], workers=0))
assert found == [(0, (9, os.getpid(), 1)), (1, (16, os.getpid(), 1))], found
assert torch.get_num_threads() == 2
assert not any(name == "ray" or name.startswith("ray.") for name in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_an_exception_of_the_work_comes_as_it_is() -> None:
    def make() -> Callable[[int], int]:
        def work(item: int) -> int:
            raise KeyError(item)

        return work

    with pytest.raises(KeyError, match="5"):
        list(pool.each(make, [], [5], workers=0))


def test_without_a_place_for_actors_the_work_is_done_here(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others fill all four CPUs: the actors wait, and so would the job."""
    import ray

    @ray.remote(num_cpus=4)
    class Everything:
        def there(self) -> bool:
            return True

    monkeypatch.setattr(pool, "PLACE_SECONDS", 1.0)
    other = Everything.remote()
    assert ray.get(other.there.remote(), timeout=60)
    try:
        found = dict(pool.each(make_squares, [], [3, 4, 5], workers=2))
    finally:
        ray.kill(other)
    assert found == {i: (n * n, os.getpid(), 1) for i, n in enumerate((3, 4, 5))}


# --- strangers

STRANGER = """
import logging, sys
import ray

@ray.remote
def owner():
    import getpass, os
    return f"ran {os.getuid()} {os.environ.get('OMP_NUM_THREADS')}"

ray.init(address=sys.argv[1], logging_level=logging.ERROR, log_to_driver=False)
print(ray.get(owner.remote(), timeout=30))
"""


def stranger(address: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process that knows a cluster's address alone, and tries to run code there."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    quick = {"RAY_gcs_server_request_timeout_seconds": "5", "HOME": str(home)}
    line = [sys.executable, "-c", STRANGER, address]
    return subprocess.run(line, env={**own, **quick, **environment}, capture_output=True, text=True, timeout=120)


CLUSTER = """
import sys
from pipeline.artifacts import pool
import ray
pool.start(cpus=1)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def open_cluster() -> Iterator[str]:
    """The address of an embedded cluster whose user has turned tokens off."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "3"}
    line = [sys.executable, "-c", CLUSTER]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(line, cwd=REPOSITORY, env=environment, text=True, **pipes) as process:
        yield process.stdout.readline().strip()  # type: ignore[union-attr]
        process.stdin.close()  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_stranger_can_run_code_where_tokens_are_off(open_cluster: str, tmp_path: Path) -> None:
    """So that the next test can fail: the address that it is given is one that a stranger reaches."""
    done = stranger(open_cluster, tmp_path, RAY_AUTH_MODE="disabled")
    assert not open_cluster.startswith("127."), "by the machine's own address"
    assert done.returncode == 0 and done.stdout.split()[:2] == ["ran", str(os.getuid())], done.stderr
    assert done.stdout.split()[2] == "1", "workers have one thread, whatever the process that started Ray has"


def test_a_stranger_is_refused(ray_cluster: None, tmp_path: Path) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    assert not address.startswith("127.")
    token = os.environ["RAY_AUTH_TOKEN"]
    assert len(token) == 64
    tried = [{"RAY_AUTH_MODE": "disabled"}]
    tried += [{"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": some} for some in ("0" * 64, token)]
    with ThreadPoolExecutor(3) as side_by_side:
        *refused, known = side_by_side.map(lambda given: stranger(address, tmp_path, **given), tried)
    for done in refused:
        assert done.returncode != 0 and done.stdout == "" and "Failed to connect to Ray" in done.stderr, done.stderr
    assert known.stdout.startswith("ran")
    # The token is in no file: neither Ray's own, which all can read, nor in what the cluster writes.
    assert not (tmp_path / ".ray").exists()
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    kept = [p for p in session.rglob("*") if p.is_file() and p.stat().st_size < 1 << 24]
    assert len(kept) > 5 and not [p for p in kept if token.encode() in p.read_bytes()]


def test_a_cluster_s_own_token_is_left_alone_where_it_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ray job submit` sets RAY_ADDRESS: its mode and token count."""
    import ray

    given: list[dict[str, Any]] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: given.append(options))
    for name, value in {"ADDRESS": "auto", "AUTH_MODE": "token", "AUTH_TOKEN": "the cluster's"}.items():
        monkeypatch.setenv(f"RAY_{name}", value)
    pool.start()
    assert given[0]["address"] == "auto"
    assert (os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"]) == ("token", "the cluster's")
    monkeypatch.delenv("RAY_ADDRESS")
    pool.start()
    assert given[1]["address"] == "local" and os.environ["RAY_AUTH_TOKEN"] not in ("", "the cluster's")
    assert "RAY_AUTH_MODE" not in os.environ  # left to ray.init, which turns tokens on


def test_a_start_that_ray_gave_up_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    done: list[str | None] = []

    def late(**options: Any) -> None:
        done.append(os.environ.get("OMP_NUM_THREADS"))
        raise Exception(said)

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: done.append("cleared"))
    monkeypatch.setattr(ray, "init", late)
    monkeypatch.setattr(pool, "_own_token", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    for said, wanted in (("The current node timed out during startup.", pool.STARTS), ("no space left on device", 1)):
        done.clear()
        with pytest.raises(Exception, match=said):
            pool.start()
        assert done == ["1", "cleared"] * wanted and os.environ["OMP_NUM_THREADS"] == "7"
