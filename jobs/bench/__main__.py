"""Measure speed, cost and recovery from kills: python -m jobs.bench NAME [options]

Ratios are taken inside one run, side by side. The last line printed is one JSON object with the figures.
"""

from __future__ import annotations

import sys

from jobs import command


def main(arguments: list[str]) -> None:
    command.measure("bench", __doc__, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
