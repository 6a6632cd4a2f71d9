"""The main job on photographs that come with the installation: python -m jobs.demo

Grey photographs get colours: crops of eight photographs that come with scikit-image and scikit-learn go through
everything, shards, descriptors, neighbours, StEP's four stages, samples, figures; the sheet shows six photographs that
training never saw. About seven minutes on two cores.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import models.step
from jobs import command, run, train
from pipeline.artifacts import storage
from pipeline.style.weights import of_recipe
from pipeline.training.job import Run


@dataclass(frozen=True)
class Config:
    """Where to, and with which weights."""

    output: str = "runs/demo"
    """Folder for everything."""
    weights: str = os.environ.get("VARIEGATE_WEIGHTS", "")
    """VGG-19 checkpoint: path, URL, `random`. None: $VARIEGATE_WEIGHTS, else torchvision's by download, else random."""
    tracking: str | None = None
    """MLflow tracking URI; none: a database in the output folder."""


def find_weights(given: str) -> str:
    """`given`, or torchvision's where it can be had within seconds, else `random`; says which, loudly."""
    recipe = models.step.PRESETS["demo"]
    if given:
        print(f"VGG weights: {given}", flush=True)
        return given
    try:
        _, origin = of_recipe("torchvision", recipe)
    except (ValueError, OSError) as error:
        print(
            f"\n*** No VGG weights: {error}\n*** Going on with RANDOM weights: styles are told apart less well."
            "\n*** For real ones: VARIEGATE_WEIGHTS=/path/to/vgg19.pth make demo\n",
            flush=True,
        )
        return "random"
    print(f"VGG weights: {origin}", flush=True)
    return "torchvision"


def main(config: Config) -> None:
    began = time.monotonic()
    output = storage.output(config.output)
    recipe = models.step.PRESETS["demo"]
    options = train.command_line(run.Config, recipe)(
        output=output, weights=find_weights(config.weights), tracking=config.tracking, recipe=recipe, run=Run()
    )
    figures = run.run("step", options)
    print(f"\n{time.monotonic() - began:.0f} s. Look at {output}/samples/samples-mapper.png; figures:")
    for name, value in figures.items():
        print(f"  {name}: {value:.4g}" if isinstance(value, float) else f"  {name}: {value}")


if __name__ == "__main__":
    command.main(Config, main, __doc__)
