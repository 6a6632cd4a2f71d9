"""What every job's command line shares: parse, run, and turn an expected error into one clear line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import tyro

C = TypeVar("C")


def main(config: Any, run: Callable[[C], Any], description: str | None) -> None:
    """Parse the command line into `config` (a dataclass) and call `run` on it.

    Exit codes: 0 done, 1 the job failed as its message says, 2 the command line was wrong, 130 interrupted.
    """
    parsed: C = tyro.cli(config, description=description)
    try:
        run(parsed)
    except (ValueError, OSError, RuntimeError) as error:
        if type(error) not in (ValueError, RuntimeError) and not isinstance(error, OSError):
            raise  # NotImplementedError and the like are defects: show where
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
