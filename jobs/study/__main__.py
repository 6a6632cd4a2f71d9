"""Reproduce a claim over several seeds: python -m jobs.study NAME [options]

A paper's claim or our own. The last line printed is one JSON object with the figures.
"""

from __future__ import annotations

import sys

from jobs import command


def main(arguments: list[str]) -> None:
    command.measure("study", __doc__, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
