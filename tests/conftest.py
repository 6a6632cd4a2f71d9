"""Fixtures shared by all tests: one embedded Ray for the session, and the folder of real data where there is one."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # loopback only
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")

import pytest


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    import ray

    from pipeline import workers

    workers.start(cpus=4)
    yield
    ray.shutdown()


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
    from pipeline.descriptors import DescribeOptions

    root = tmp_path_factory.mktemp("tiny")
    work = {name: str(root / name) for name in ("data", "descriptors", "neighbours", "other")}
    shard.run(shard.Config(source="demo", output=work["data"], size=16, crops=2, workers=1))
    shard.run(shard.Config(source="demo", output=work["other"], size=16, crops=2, seed=1, workers=1))
    options = DescribeOptions(net="vgg19", layers=("relu1_2",))
    made = {"data": work["data"], "describe": options, "weights": "random", "workers": 1}
    describe.run(describe.Config(output=work["descriptors"], **made))
    neighbours.run(
        neighbours.Config(data=work["data"], descriptors=work["descriptors"], output=work["neighbours"], workers=1)
    )
    return work
