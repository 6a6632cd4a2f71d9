"""Find damage: python -m jobs.verify PATH checks every data set, artifact and checkpoint below PATH, byte by byte.

With --source each sample is also compared with the source's own bytes ("demo", or the folder that was sharded). If
anything is damaged, the exit code is 1 and each damaged file is named on a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from jobs import command
from pipeline.artifacts import storage
from pipeline.artifacts.damage import Findings
from pipeline.data import damage


@dataclass(frozen=True)
class Config:
    """What to verify."""

    path: Annotated[str, tyro.conf.Positional]
    """A data set, an artifact, a run, or a folder of them; local or s3://."""
    source: str = ""
    """Compare the samples with this source too: "demo", or the folder that was sharded."""


def run(config: Config) -> Findings:
    """Print what was verified; returns it.

    Raises:
        ValueError: something is damaged (the message names each file), or there is nothing to verify.
    """
    root = storage.absolute(config.path, "PATH")
    source = config.source if config.source in ("", "demo") else storage.absolute(config.source, "--source")
    found = damage.walk(root, source)
    for line in found.seen:
        print(line)
    if found.problems:
        raise ValueError(f"{len(found.problems)} problems\n  " + "\n  ".join(found.problems))
    print("no damage found")
    return found


if __name__ == "__main__":
    command.main(Config, run, __doc__)
