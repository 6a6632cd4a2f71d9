"""What every job's command line shares: parse, run, and turn an expected error into one clear line."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro
from pydantic import ByteSize, TypeAdapter, ValidationError

C = TypeVar("C")
SIZES = tyro.constructors.ConstructorRegistry()
"""Reads options of type `pydantic.ByteSize`."""


def _size(words: list[str]) -> ByteSize:
    wrong = f"{words[0]}: give a size such as 4GiB or 500MB"
    if not re.fullmatch(r"\d*\.?\d+\s*[A-Za-z]*", words[0]):  # pydantic reads 4 bytes from "4,5GiB"
        raise ValueError(wrong)
    try:
        return TypeAdapter(ByteSize).validate_python(words[0])
    except ValidationError as error:
        raise ValueError(wrong) from error


@SIZES.primitive_rule
def _sizes(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
    if info.type is not ByteSize:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="SIZE",
        instance_from_str=_size,
        is_instance=lambda value: isinstance(value, ByteSize),
        str_from_instance=lambda value: [value.human_readable()],
    )


def main(config: Any, run: Callable[[C], Any], description: str | None, arguments: Sequence[str] | None = None) -> None:
    """Parse the command line (or `arguments`) into `config` (a dataclass) and call `run` on it.

    Exit codes: 0 done, 1 the job failed as its message says, 2 the command line was wrong, 130 interrupted.
    """
    try:
        parsed: C = tyro.cli(config, description=description, args=arguments, registry=SIZES)
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
    except KeyboardInterrupt:
        raise SystemExit(130) from None
