"""What every job's command line shares: parse, run, and turn an expected error into one clear line; menus and help."""

from __future__ import annotations

import ast
import difflib
import errno
import importlib
import inspect
import json
import keyword
import re
import shlex
import sys
import textwrap
import typing
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

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
        parsed: C = tyro.cli(config, prog=_prog(arguments), description=description, args=arguments, registry=SIZES)
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


# Long help in groups --------------------------------------------------------------------------------------------------


def grouped(value: Any) -> Any:
    """A type for tyro: options for the fields of a dataclass, with the names and help that it has, the values of
    `value` as defaults, in groups; parsing it gives such a dataclass.

    Fields that begin with the same word are a group of that name (`encoder_images`, `encoder_rate`: "encoder options");
    the others are the group "recipe".
    """
    kind = type(value)
    hints, helps = typing.get_type_hints(kind, include_extras=True), _field_docstrings(kind)
    counts = Counter(f.name.partition("_")[0] for f in fields(kind) if "_" in f.name)
    groups: dict[str, list[Any]] = {"recipe": []}
    for name in (f.name for f in fields(kind)):
        word, _, rest = name.partition("_")
        option: Any = Annotated[hints[name], tyro.conf.arg(prefix_name=False, help=helps.get(name))]
        group = groups.setdefault(word if rest and counts[word] > 1 else "recipe", [])
        group.append((name, option, field(default=getattr(value, name))))
    made = {word: make_dataclass(word, options, frozen=True) for word, options in groups.items() if options}
    names = {word: f"{word}_" if keyword.iskeyword(word) else word for word in made}  # a stage may be called global
    named = [(names[word], group, field(default_factory=group)) for word, group in made.items()]
    parts = make_dataclass("Grouped", named)

    def build(parts: Any) -> Any:
        return kind(**{f.name: getattr(group, f.name) for group in vars(parts).values() for f in fields(group)})

    build.__annotations__ = {"parts": Annotated[parts, tyro.conf.arg(name="")], "return": kind}
    return Annotated[kind, tyro.conf.arg(name="", constructor=build)]


def _field_docstrings(kind: type) -> dict[str, str]:
    """Field -> the string below it, of a dataclass and those it derives from."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        [defined] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(defined, ast.ClassDef)
        for line, after in zip(defined.body, defined.body[1:], strict=False):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(after, ast.Expr):
                text = ast.literal_eval(after.value) if isinstance(after.value, ast.Constant) else None
                if isinstance(text, str):
                    found[line.target.id] = inspect.cleandoc(text)
    return found
