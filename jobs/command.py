"""What every job's command line shares: parse, run, and turn an expected error into one clear line; menus and help."""

from __future__ import annotations

import ast
import contextlib
import difflib
import errno
import importlib
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
from pydantic import ByteSize, TypeAdapter, ValidationError

import jobs

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
    parsed: C = _parsed(config, prog=_prog(arguments), description=description, args=arguments, registry=SIZES)
    jobs.loaded()
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


def _parsed(config: Any, **how: Any) -> Any:
    """tyro's reading of the command line. What it refuses ends (2) with "error: ..." as everything else does."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):  # the help goes to stdout
            value = tyro.cli(config, **how)
    except SystemExit as end:
        if not end.code:
            raise
        told = _refusal(config, how)
    except ValueError as error:  # a number out of range
        told = str(error)
    else:
        sys.stderr.write(said.getvalue())
        return value
    print(f"error: {told}", file=sys.stderr)
    raise SystemExit(2)


def _refusal(config: Any, how: dict[str, Any]) -> str:
    """What tyro says of a command line that it refuses, without the box around it.

    The box fills a terminal's width, in its colours. Read as on a very wide screen that is no terminal, its form is
    always the same (a title, a rule, the text, rules between its parts), and no sentence or path is broken."""
    said, width = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100000"
    try:
        unseen = contextlib.redirect_stdout(io.StringIO())
        with unseen, contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
            tyro.cli(config, **how)
    finally:
        os.environ.pop("COLUMNS") if width is None else os.environ.update(COLUMNS=width)
    lines = [line.strip() for line in said.getvalue().splitlines()[1:] if line.strip(" -")]
    if not lines:
        return said.getvalue().strip()
    return "\n  ".join([re.sub(r"^Error parsing (\w+: )?", "", lines[0]), *lines[1:]])


def _prog(arguments: Sequence[str] | None) -> str | None:
    """The command as the help shows it, with its leading words: `python -m jobs.train step tiny`."""
    if not (module := _module()):
        return None
    leading = sys.argv[1 : len(sys.argv) - len(arguments)] if arguments is not None else []
    return " ".join(["python", *module, *leading])


def _module() -> list[str]:
    """`-m jobs.NAME` as words, where this process runs a job."""
    name = getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", "") or ""
    return ["-m", name.removesuffix(".__main__")] if name.startswith("jobs.") else []


def given() -> str:
    """The command line of this process, to be given again; without the passwords of addresses in it."""
    words = [_bare(word) for word in sys.argv[1:]]
    return shlex.join(["python", *(_module() or [Path(sys.argv[0]).name]), *words])


def _bare(word: str) -> str:
    """An address without a user's name and password, `--option=ADDRESS` included."""
    return re.sub(r"(://)[^/@]*@", r"\1", word)


# Menus: a word that names a command, a bench, a study -----------------------------------------------------------------


def chosen(word: str, names: Sequence[str], what: str) -> str:
    """`word` where it is one of `names`; else exits (2), naming the nearest one, or all where none is near."""
    if word in names:
        return word
    near = difflib.get_close_matches(word, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(names)}"
    print(f"error: no {what} {word!r}: {hint}", file=sys.stderr)
    raise SystemExit(2)


def measure(kind: str, description: str | None, arguments: list[str]) -> None:
    """Run the module of `jobs.KIND` that the first word names and print its figures as one JSON object; without a word
    list them, with the first line of each one's docstring. A dash in a name stands for an underscore."""
    files = sorted(Path(__file__).parent.joinpath(kind).glob("[!_]*.py"))
    names = [path.stem.replace("_", "-") for path in files]
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"  {name:<14}{_first_line(path)}" for name, path in zip(names, files, strict=True)]
        print("\n".join([str(description), *lines]))
        return
    name = chosen(arguments[0].replace("_", "-"), names, kind)
    module = importlib.import_module(f"jobs.{kind}.{name.replace('-', '_')}")

    def run(config: Any) -> None:
        print(json.dumps({kind: name, **module.run(config)}))

    main(module.Config, run, module.__doc__, arguments[1:])


def _first_line(path: Path) -> str:
    """Of a module's docstring, read without importing it."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
