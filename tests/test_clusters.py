"""Clusters that cannot be reached, and that lose their only host."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent


def test_an_unreachable_cluster_is_named() -> None:
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1", "RAY_AUTH_MODE": "disabled"}
    line = [sys.executable, "-c", "from pipeline.artifacts import pool; pool.start()"]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode != 0 and "RAY_ADDRESS=127.0.0.1:1: no cluster answers there" in done.stderr


DEAD_NODE = """
import os, signal, threading, time
from pathlib import Path
from pipeline.artifacts import pool

def make():
    return time.sleep

def raylet():
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, rest = (folder / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        if name == "raylet" and int(rest.split()[1]) == os.getpid():
            return int(folder.name)

pool.NODE_CHECK_SECONDS = 1.0
pool.start(cpus=1)
threading.Timer(5, lambda: os.kill(raylet(), signal.SIGKILL)).start()
list(pool.each(make, [], [600], 1))
"""


def test_a_dead_node_ends_the_wait_for_its_workers() -> None:
    """Without the check the driver waits for ever, or until Ray ends it; either way it must not end well."""
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", DEAD_NODE], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode != 0 and "the same command again goes on" in done.stderr, done.stderr[-2000:]
