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
