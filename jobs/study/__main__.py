"""Measure a claim again: python -m jobs.study NAME [options]

The last line printed is one JSON object with the figures.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jobs import command

if __name__ == "__main__":
    command.choose(Path(__file__).parent, __doc__, sys.argv[1:])
