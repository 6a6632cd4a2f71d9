"""Fixtures shared by all tests: one embedded Ray for the session, and the folder of real data where there is one."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # a process more for each training
# Ray's workers give way to everything else (nice 15): beside other test processes they would hardly run.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as commands set it
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault(
        "OMP_NUM_THREADS", "1"
    )  # several processes share the cores: threads would wait for each other

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: of several processes none is left with the longest at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    import ray

    from pipeline.artifacts import pool

    pool.start(cpus=4)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """An S3 server on loopback with one bucket, found by this process and its children through their environment."""
    from moto.server import ThreadedMotoServer

    from pipeline.artifacts import storage

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "testing"}
    given |= {"AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        fs, _ = storage._fs("s3://tests/x")
        fs.mkdir("tests")
        yield "s3://tests"
    server.stop()


Each = Callable[..., Iterator[tuple[int, Any]]]


@pytest.fixture(scope="session")
def inline() -> Each:
    """`pool.each` without Ray, which takes seconds to start an actor."""

    def each(
        make: Callable[..., Callable[[Any], Any]], arguments: Sequence[Any], items: Sequence[Any], *_: Any, **__: Any
    ) -> Iterator[tuple[int, Any]]:
        import torch

        torch.set_num_threads(1)
        work = make(*arguments)
        yield from ((number, work(item)) for number, item in enumerate(items))

    return each


@pytest.fixture
def no_ray(inline: Each, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.artifacts import pool

    monkeypatch.setattr(pool, "each", inline)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images and weights; tests that need it skip where it is missing."""
    folder = Path(os.environ.get("VARIEGATE_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set VARIEGATE_DATA)")
    return folder


@pytest.fixture(scope="session")
def tiny_work(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A 16-pixel demo data set with descriptors and neighbours by a random VGG-19: what `tiny` presets train on."""
    from jobs import describe, neighbours, shard
    from pipeline.neighbours.options import Exact
    from pipeline.style.descriptors import DescribeOptions

    root = tmp_path_factory.mktemp("tiny")
    work = {name: str(root / name) for name in ("data", "descriptors", "neighbours", "other")}
    shard.run(shard.Config(source="demo", output=work["data"], size=16, crops=2, workers=0))
    shard.run(shard.Config(source="demo", output=work["other"], size=16, crops=2, seed=1, workers=0))
    options = DescribeOptions(net="vgg19", layers=("relu1_2",))
    made = {"data": work["data"], "describe": options, "weights": "random", "workers": 0}
    describe.run(describe.Config(output=work["descriptors"], **made))
    search = Exact(workers=0)
    neighbours.run(
        neighbours.Config(data=work["data"], descriptors=work["descriptors"], output=work["neighbours"], search=search)
    )
    return work
