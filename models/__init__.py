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
    """The family's module: `Config` (its Recipe), `PRESETS` (name -> Config), `build(recipe, group, perceptual)`,
    `check(recipe, perceptual)` (refuses what does not fit, before anything is built), `NEEDS` (artifacts that it cannot
    be trained without) and `input_kind(recipe)` ("image" or "labels").

    Raises:
        ValueError: no such family; the message lists those there are.
    """
    if name not in names():
        raise ValueError(f"no family {name!r}: choose one of {', '.join(names())}")
    return import_module(f"models.{name}")
