"""What every job's command line shares: parse, run, and turn an expected error into one clear line."""

from __future__ import annotations

import ast
import errno
import json
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
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


def choose(folder: Path, description: str, arguments: Sequence[str]) -> None:
    """Run the module of the package in `folder` that the first word names (a dash stands for an underscore), with the
    other words as its options; print its figures as one JSON object. Without a name: list them, one line each."""
    there = {path.stem.replace("_", "-"): path for path in sorted(folder.glob("[!_]*.py"))}
    if not arguments or (name := arguments[0].replace("_", "-")) not in there:
        width = max(map(len, there))
        print(description)
        for known, path in there.items():
            print(f"  {known:{width}}  {_first_sentence(path)}")
        raise SystemExit(0 if arguments[:1] in (["-h"], ["--help"]) else 2)
    module = import_module(f"jobs.{folder.name}.{there[name].stem}")

    def run(config: Any) -> None:
        print(json.dumps({folder.name: name, **module.run(config)}))

    main(module.Config, run, module.__doc__, arguments[1:])


def _first_sentence(path: Path) -> str:
    """Of a module's docstring, which is read without importing the module."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].split())
    return re.split(r"(?<=[.;:?])\s", text)[0].rstrip(".;:")
