"""Long help in groups: the options of a recipe, by stage."""

from __future__ import annotations

import ast
import inspect
import keyword
import textwrap
import typing
from collections import Counter
from dataclasses import field, fields, make_dataclass
from typing import Annotated, Any

import tyro


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
