"""The families of Variegate, in plain PyTorch.

A family is a folder of this package that is not `common`: finding the folders is the whole registry. Families of your
own may lie elsewhere: `VARIEGATE_FAMILIES` names folders of them, separated as in PATH.
"""

import os
import pkgutil
from importlib import import_module
from types import ModuleType

__path__ = [*__path__, *filter(None, os.environ.get("VARIEGATE_FAMILIES", "").split(os.pathsep))]


def names() -> list[str]:
    """The families present, sorted: every package in this one but `common`."""
    return sorted(found.name for found in pkgutil.iter_modules(__path__) if found.ispkg and found.name != "common")


def load(name: str) -> ModuleType:
    """The family's module: `Config` (its Recipe), `PRESETS` (name -> Config), `SUMMARY` (what it is for, in a line),
    `fields(recipe)` and `artifacts(recipe)` (what it reads and uses), `check(recipe, perceptual)` (refuses what does
    not fit, before anything is built) and `build(recipe, group, perceptual, facts)`.

    Raises:
        ValueError: no such family; the message lists those there are.
    """
    if name not in names():
        raise ValueError(f"no family {name!r}: choose one of {', '.join(names())}")
    return import_module(f"models.{name}")
