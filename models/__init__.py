"""The families of Variegate, in plain PyTorch.

A family is a folder of this package that is not `common`: finding the folders is the whole registry.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType


def names() -> list[str]:
    """The families present, sorted: every folder beside this file that has an `__init__.py`, but `common`."""
    here = Path(__file__).parent
    return sorted(p.parent.name for p in here.glob("*/__init__.py") if p.parent.name != "common")


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
