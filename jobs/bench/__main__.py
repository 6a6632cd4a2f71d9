"""Measure speed and memory: python -m jobs.bench NAME [options]

Ratios are taken inside one run, side by side. The last line printed is one JSON object with the figures.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from jobs import command


def names() -> list[str]:
    """The benches there are: the modules of this folder."""
    return sorted(p.stem for p in Path(__file__).parent.glob("[!_]*.py"))


def named(word: str) -> str:
    """The bench that a word of the command line means: a dash stands for an underscore."""
    return word.replace("-", "_")


def main(arguments: list[str]) -> None:
    if not arguments or named(arguments[0]) not in names():
        print(f"{__doc__}\nbenches: {', '.join(name.replace('_', '-') for name in names())}")
        raise SystemExit(0 if arguments[:1] in (["-h"], ["--help"]) else 2)
    bench = import_module(f"jobs.bench.{named(arguments[0])}")

    def run(config: Any) -> None:
        print(json.dumps({"bench": arguments[0], **bench.run(config)}))

    command.main(bench.Config, run, bench.__doc__, arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
