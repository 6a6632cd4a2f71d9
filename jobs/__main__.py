"""Variegate: from images to many plausible images for one input. python -m jobs COMMAND ..., or variegate COMMAND ...

`COMMAND --help` explains every option of a command.
"""

from __future__ import annotations

import runpy
import sys

from jobs import command

COMMANDS: dict[str, dict[str, str]] = {
    "Data": {
        "shard": "pack a folder of images into WebDataset shards with an index",
        "describe": "compute each image's style descriptor (Gram matrices of a VGG)",
        "sketch": "fit small codes to style descriptors, or code them",
        "rarity": "how rare each class's colour is in each labelled image",
        "features": "compute features of each image for families that read them in place of pixels",
        "verify": "check data sets, artifacts and checkpoints byte by byte",
    },
    "Neighbours": {
        "neighbours": "find each image's closest and furthest in style",
        "match": "find each training pair's nearest sample (conditional IMLE)",
    },
    "Training": {
        "train": "train a family on shards, all its stages: train FAMILY PRESET",
        "run": "all of it, from shards to figures, in one folder: run FAMILY PRESET",
        "demo": "the same on photographs that come with the installation",
    },
    "Use": {
        "sample": "draw many plausible images for each input, as sheets or files",
        "edit": "change, remove, add or restyle single objects of a picture",
        "likelihood": "log-probability of every sample, as a table",
        "evaluate": "measure fidelity and diversity on held-out samples",
        "compare": "train several families with one budget, and measure all alike",
        "convert": "make a run of weights that a paper's authors released: convert FAMILY PRESET",
        "export": "write a trained generator for other programs: torch.export, ONNX",
    },
    "Benchmarks": {
        "bench": "measure speed, cost and recovery from kills: bench NAME",
        "study": "reproduce a claim over several seeds: study NAME",
    },
}
"""Task -> command -> what it does; `python -m jobs.COMMAND` each."""


def listing() -> str:
    """All commands by task, one line each."""
    lines = [str(__doc__)]
    for task, commands in COMMANDS.items():
        lines += [task, *(f"  {name:<12}{what}" for name, what in commands.items()), ""]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run the command that the first word names, as `python -m jobs.COMMAND` does; without one list them all."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print(listing())
        return
    name = command.chosen(words[0], [name for commands in COMMANDS.values() for name in commands], "command")
    sys.argv = [f"jobs.{name}", *words[1:]]
    runpy.run_module(f"jobs.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
