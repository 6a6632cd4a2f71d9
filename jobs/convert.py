"""Make a run of weights that a paper's authors released: python -m jobs.convert FAMILY PRESET --files ... --output DIR

    python -m jobs.convert pix2pix pytorch --files G latest_net_G.pth --output /data/pix2pix

For pix2pix (PyTorch code; files G, D), pix2pixHD (G, E, D), BicycleGAN (G, E, D, D2) and MUNIT (gen, dis). Every field
of the recipe is an option: it must describe the released network. The run serves jobs.sample, jobs.evaluate,
jobs.export and jobs.edit. Only files that hold tensors alone are read.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import models
from jobs import command
from jobs.train import command_line, leading_words
from models.family import Facts
from models.group import Group
from pipeline.artifacts import storage
from pipeline.runs import checkpoint


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is read, and where the run is written."""

    files: dict[str, str]
    """NAME FILE: released checkpoints, by the names above; the first one is needed."""
    output: str
    """Folder of the run; none may be there yet."""


def convert(family: str, config: Any) -> str:
    """Returns the path of the run's weights.

    Raises:
        ValueError: a family without released weights, a file that is damaged or of another network.
        FileNotFoundError: there is none.
    """
    module = models.load(family)
    try:
        released = importlib.import_module(f"{module.__name__}.released")
    except ModuleNotFoundError as error:
        raise ValueError(f"{family}: no released weights are known for this family") from error
    if not set(released.FILES) >= config.files.keys() >= {released.FILES[0]}:
        known = ", ".join(released.FILES)
        raise ValueError(f"--files {' '.join(config.files)}: give {released.FILES[0]}; known: {known}")
    output, recipe = storage.output(config.output), config.recipe
    if storage.exists(storage.join(output, "recipe.json")):
        raise ValueError(f"--output {config.output} holds a run: name another folder")
    module.check(recipe, None)
    net = module.build(recipe, Group(alone=True), None, Facts())
    files = {name: storage.absolute(path, f"--files {name}") for name, path in config.files.items()}
    released.load(net, {name: checkpoint.read(path) for name, path in files.items()})
    inputs = {"weights": "released", "split": "train"}
    checkpoint.claim(output, family, recipe, inputs, Facts())
    facts = {"family": family, "recipe": checkpoint.recipe_json(recipe), "inputs": inputs}
    checkpoint.publish(storage.join(output, "weights"), {"family": net.state_dict()}, facts)
    return storage.join(output, "weights.pt")


if __name__ == "__main__":
    family, recipe, rest = leading_words(__doc__)
    command.main(command_line(Config, recipe), lambda config: print(convert(family, config)), __doc__, rest)
