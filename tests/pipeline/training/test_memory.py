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
import ctypes, resource, sys
from pipeline.training import memory
if sys.argv[1] == "kept":
    assert memory.keep_freed()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes, libc.memset.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def step():
    blocks = [libc.malloc(20_000_000) for _ in range(10)]
    for block in blocks:
        libc.memset(block, 1, 20_000_000)
    for block in blocks:
        libc.free(block)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
before = faults()
for _ in range(5):
    step()
print((faults() - before) // 5)
"""


def faults(how: str, threshold: int) -> int:
    """Page faults of a step of ten blocks of 20 MB. Blocks from `threshold` bytes on have pages of their own unless the
    process says otherwise; below it, the heap's free end is handed back."""
    given = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(threshold)}  # a fixed one: glibc would move it
    command = [sys.executable, "-c", CODE, how]
    told = subprocess.run(command, cwd=REPOSITORY, env=given, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    return int(told.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize("threshold", [1 << 20, 32 << 20])
def test_a_step_gets_its_memory_back(threshold: int) -> None:
    pages = 200_000_000 // 4096
    assert faults("freed", threshold) > pages / 2  # else there is nothing to gain, and this test cannot fail
    assert faults("kept", threshold) < pages / 100


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert not memory.keep_freed()
