"""What every job's command line shares: parse, run, and turn an expected error into one clear line."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

C = TypeVar("C")


def main(config: Any, run: Callable[[C], Any], description: str | None, arguments: Sequence[str] | None = None) -> None:
    """Parse the command line (or `arguments`) into `config` (a dataclass) and call `run` on it.

    Exit codes: 0 done, 1 the job failed as its message says, 2 the command line was wrong, 130 interrupted.
    """
    try:
        parsed: C = tyro.cli(config, description=description, args=arguments)
    except ValueError as error:  # a number out of range
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    try:
        run(parsed)
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        if isinstance(error, NotImplementedError):
            raise  # a defect: show where
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        where = f" ({getattr(parsed, 'output', 'output')}): make room and give the same command again" if full else ""
        print(f"error: {error}{where}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt as stop:
        print(f"interrupted: {stop}" if str(stop) else "interrupted", file=sys.stderr)
        raise SystemExit(130) from None
