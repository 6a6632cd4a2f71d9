"""Commands, one a file: python -m jobs.NAME. While a command's modules load, Ctrl-C ends it with one line.

Imported before PyTorch, this package sets OMP_WAIT_POLICY=passive, unless it is set.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn


def _end(number: int, frame: object) -> NoReturn:
    """Nothing was begun that would have to be saved. An exception would not do: raised while a compiled module loads,
    it may be lost or shown as a traceback."""
    os.write(2, b"interrupted\n")
    os._exit(130)


def loaded() -> None:
    """From now on Ctrl-C is a KeyboardInterrupt again, which the work handles."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _commands(words: list[str]) -> bool:
    """Whether `words`, an interpreter's command line, run one of these files. Imported as a library they leave signals
    alone."""
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1].partition(".")[0] == "jobs"
    return len(words) > 1 and Path(words[1]).name == "variegate"


# Threads that wait for each other sleep, rather than spin: where other work shares the cores, a spinning thread keeps
# the one it waits for from running. OpenMP reads this once, when PyTorch loads it; Ray's workers inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# An ignored SIGINT (nohup, a shell's background job) stays ignored.
if _commands(sys.orig_argv) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)
