"""Fit small codes to style descriptors, or code them:
python -m jobs.sketch --descriptors data/styles --output data/sketch
python -m jobs.sketch --descriptors data/styles --sketch data/sketch --output data/codes

The first fits a sketch to a sample of the descriptors; `jobs.describe --sketch data/sketch` then describes any number
of images without ever storing a vector. The second codes vectors that are there. Codes are searched as descriptors are:
`jobs.neighbours --descriptors data/codes`.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jobs import command
from pipeline.artifacts import artifact, storage
from pipeline.artifacts.fill import Parts, Request, fill
from pipeline.style import descriptors, sketches
from pipeline.style.codec import codec_of
from pipeline.style.sketches import SketchOptions
from pipeline.style.vectors import Vectors

if TYPE_CHECKING:
    from pipeline.tracking.journal import Tracker


@dataclass(frozen=True)
class Config:
    """What to fit to, or what to code with what."""

    descriptors: str
    """Folder of exact descriptors (jobs.describe), local or s3://."""
    output: str
    """Folder of the sketch, or of the codes; local or s3://."""
    sketch: str = ""
    """Folder of a fitted sketch: code the descriptors with it."""
    fit: Annotated[SketchOptions, tyro.conf.arg(name="")] = field(default_factory=SketchOptions)
    """Of a sketch to be fitted."""
    workers: int = 2
    """Ray actors that code; the fit runs in this process."""
    threads: int = 1
    """CPU threads an actor."""

    def __post_init__(self) -> None:
        if self.workers < 0 or self.threads < 1:
            raise ValueError(f"--workers {self.workers}, --threads {self.threads}: give at least 0, 1")


def run(config: Config, tracker: Tracker | None = None) -> artifact.Card:
    """Fit, or code what is missing; returns the card.

    Raises:
        ValueError: no exact descriptors, a sketch of others, too few images, or another artifact in the folder.
    """
    began = time.perf_counter()
    folder = storage.output(config.output)
    source = storage.absolute(config.descriptors, "--descriptors")
    described = artifact.load_card(source, "descriptors")
    if "codec" in described["notes"]:
        raise ValueError(f"--descriptors {source} are codes already: give the exact ones")
    card = _code(config, folder, source, described) if config.sketch else _fit(config, folder, source, described)
    seconds = time.perf_counter() - began
    codec = codec_of(card["notes"])
    size = 4 * Vectors(source).dimension
    what = f"coded {card['rows']}" if config.sketch else f"a {config.fit.kind} for {described['rows']}"
    print(
        f"{what} images: {codec.bytes} bytes each, 1/{size / codec.bytes:.0f} of the descriptor, "
        f"{len(codec.bits)} directions, {seconds:.1f} s: {folder}"
    )
    if tracker is not None:
        tracker.scalars({"sketch/seconds": seconds, "sketch/bytes": codec.bytes}, 0)
        tracker.file(storage.join(folder, "card.json"))
    return card


def _fit(config: Config, folder: str, source: str, described: artifact.Card) -> artifact.Card:
    def fit() -> artifact.Card:
        vectors = Vectors(source)
        return sketches.save(folder, *sketches.fit(vectors, vectors.valid, config.fit))

    asked = Request("sketch", sketches.VERSION, sketches.origin(described), asdict(config.fit))
    return fill(folder, "sketch", asked, fit).card


def _code(config: Config, folder: str, source: str, described: artifact.Card) -> artifact.Card:
    sketch = storage.absolute(config.sketch, "--sketch")
    inputs: dict[str, Any] = {**described["inputs"], "descriptors": described["content"]}
    codec = sketches.check(sketch, inputs, described["options"])
    numbers = range(described["parts"])
    return fill(
        folder,
        "sketch",
        Request("descriptors", descriptors.VERSION, inputs, described["options"]),
        lambda: artifact.finish(folder, numbers, {**described["notes"], **codec}),
        Parts(numbers, descriptors.part_coder, [source, folder, sketch], config.workers, config.threads),
    ).card


if __name__ == "__main__":
    command.main(Config, run, __doc__)
