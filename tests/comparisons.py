"""A tiny comparison, for the tests of jobs.compare: its data, its options, its tables."""

import csv
from pathlib import Path
from typing import Any

from jobs import compare, shard

FAMILIES = ("pix2pix:tiny", "munit:tiny:pairing=paired,pair_weight=10", "ids=pix2pix:tiny:condition=labels,labels=3")


def made_sets(root: Path) -> dict[str, str]:
    """The same pictures with pictures and with label maps as inputs."""
    found = {}
    for kind in ("image", "labels"):
        found[kind] = str(root / kind)
        option = {"size": "16", "count": "16", "held_out": "8", "input": kind}
        shard.run(shard.Config(source="colourings", option=option, output=found[kind], workers=0))
    return found


def config(sets: dict[str, str], output: Path, **more: Any) -> compare.Config:
    given: dict[str, Any] = {"families": FAMILIES, "seeds": (0, 1), "updates": 4, "size": 16, "weights": "random"}
    given |= {"protocol": "own", "inputs": 3, "samples": 4, "segmenter_steps": 5, "sheet": 2, "tracking": "off"}
    return compare.Config(**{**given, "data": sets["image"], "labels": sets["labels"], "output": str(output), **more})


def rows(output: Path, name: str = "figures") -> list[dict[str, str]]:
    return list(csv.DictReader((output / "report" / f"{name}.csv").open()))
