"""A trained generator as a file for other programs: `torch.export` (.pt2) and ONNX.

    python -m jobs.export --run RUN --data DATASET --output DIR

Writes generator.pt2, generator.onnx, and generator.json with their inputs (names, types, shapes, values). Before they
are written, both are run on samples of the data set and compared with the run's own pictures. An exported generator is
deterministic: codes and noise are inputs, and dropout is off.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import torch

from jobs import command
from models.abilities import Exports, require
from models.common.seeds import seeded
from models.family import Batch
from pipeline.artifacts import storage
from pipeline.data.order import picks
from pipeline.data.shards import DataSet
from pipeline.runs import checkpoint, export
from pipeline.runs.sampler import Trained, open_run

if TYPE_CHECKING:
    from pipeline.tracking.journal import Tracker


@dataclass(frozen=True)
class Config:
    """What to export, and where to."""

    run: str
    """Folder of a training run."""
    output: str
    """Folder for the files."""
    data: str = ""
    """Data set whose samples in --split are the inputs of the comparison; for families without an input none is
    needed."""
    split: str = "val"
    """Split of --data."""
    stage: str = ""
    """Use the weights at the end of this stage; none: the final ones."""
    forms: tuple[Literal["pt2", "onnx"], ...] = ("pt2", "onnx")
    """What to write. `onnx` needs the optional extra `export`."""
    samples: int = 4
    """Inputs of the comparison."""
    tolerance: float = 1e-4
    """Largest difference of a value of the output (pictures are in [-1, 1]) that is accepted."""
    seed: int = 0
    """Root of the codes and the noise of the comparison."""

    def __post_init__(self) -> None:
        if self.samples < 2 or not self.forms:
            raise ValueError(f"--samples {self.samples}: give at least 2, and at least one of --forms")


def run(config: Config, tracker: Tracker | None = None) -> dict[str, Any]:
    """Write the files; returns generator.json's content.

    Raises:
        ValueError: a family that has no generator to export, or a file that makes other pictures than the run.
    """
    output = storage.output(config.output, run=config.run, data=config.data)
    path = storage.absolute(config.run, "--run")
    opened = open_run(path, config.stage)
    family = require(opened.family, Exports, "jobs.export")
    given, compared = _examples(config, opened)
    graph = family.graph(given, seeded(config.seed, "export"))
    program = export.trace(graph)
    files = {form: export.FORMS[form](graph, program) for form in dict.fromkeys(config.forms)}
    for form, file in files.items():
        if not file.difference <= config.tolerance:
            raise ValueError(
                f"generator.{form} differs from the run's own pictures by {file.difference:.3g}, more than --tolerance "
                f"{config.tolerance:g}: nothing is written"
            )
    weights = checkpoint.stage_path(path, config.stage) if config.stage else storage.join(path, "weights")
    told: dict[str, Any] = {
        **export.described(graph),
        "family": opened.name,
        "weights": storage.sha256_file(weights + ".pt"),
        "compared": {**compared, "tolerance": config.tolerance, "seed": config.seed},
        "versions": {name: version(name) for name in ("torch", *(export.NEEDED if "onnx" in files else ()))},
        "files": {
            f"generator.{form}": {
                "bytes": len(file.data),
                "sha256": hashlib.sha256(file.data).hexdigest(),
                "version": file.version,
                "largest_difference": file.difference,
            }
            for form, file in files.items()
        },
    }
    for form, file in files.items():
        place = storage.join(output, f"generator.{form}")
        storage.publish(place, file.data)
        print(f"{place}: largest difference {file.difference:.3g}")
    storage.publish_json(storage.join(output, "generator.json"), told)
    for part in (*told["inputs"], told["output"]):
        print(f"  {part['name']}: {part['type']} {' x '.join(map(str, part['shape']))}, {part['values']}")
    if told["note"]:
        print(f"  {told['note']}")
    if tracker:
        tracker.scalars({f"export/{form}_difference": file.difference for form, file in files.items()}, 0)
        tracker.file(storage.join(output, "generator.json"))
    return told


def _examples(config: Config, opened: Trained) -> tuple[Batch, dict[str, Any]]:
    """Inputs for the comparison, and which they are."""
    reads = list(opened.family.reads)
    if not reads:
        return {"index": torch.arange(config.samples)}, {"samples": config.samples}
    if not config.data:
        raise ValueError(f"--data: name a data set; {opened.name} reads {', '.join(reads)}, and is compared on samples")
    data = DataSet(storage.absolute(config.data, "--data"), config.split)
    positions = list(picks(len(data), config.samples))
    if len(positions) < 2:
        raise ValueError(f"--split {config.split}: has {len(positions)} samples, and at least 2 are needed")
    given = opened.images(data).centred(positions, reads, opened.frame)
    return given, {"dataset": data.fingerprint, "split": config.split, "keys": [data.keys[p] for p in positions]}


if __name__ == "__main__":
    command.main(Config, run, __doc__)
