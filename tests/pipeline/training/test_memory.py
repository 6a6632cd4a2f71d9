"""Freed memory is kept for the next step: by page faults, in processes of their own."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.training import memory

REPOSITORY = Path(__file__).parents[3]
CODE = """
import resource, sys, torch
from pipeline.training import memory
if sys.argv[1] == "kept":
    assert memory.keep_freed()
def step():
    tensors = [torch.ones(5_000_000) for _ in range(10)]  # 200 MB
    return len(tensors)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
before = faults()
for _ in range(5):
    step()
print((faults() - before) // 5)
"""


def faults(how: str) -> int:
    """Page faults of a step whose tensors are 20 MB each. From 1 MB on each block has pages of its own, unless the
    process says otherwise: whether glibc's defaults hand memory back depends on what lies at the heap's end."""
    given = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    command = [sys.executable, "-c", CODE, how]
    told = subprocess.run(command, cwd=REPOSITORY, env=given, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    return int(told.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_step_gets_its_memory_back() -> None:
    pages = 200_000_000 // 4096
    assert faults("freed") > pages / 2  # else there is nothing to gain, and this test cannot fail
    assert faults("kept") < pages / 100


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert not memory.keep_freed()
