"""How well small codes stand for style vectors, and how few of those an exact search has to compare.

frontier: recall of the 5 closest and the 13 furthest by codes alone, against bytes per image; each set's codes are
fitted on the others' crops. reranked: the 5 closest of queries among many crops, by a sketch's 50 closest, which exact
distances decide; the sketch is fitted on some of the crops, but not on the queries. certified: share of the rows that
pipeline.certified compares. speed: of the exact search, of sketching, and of two workers.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image

from jobs.bench.style import crops, frontier, many, speed
from jobs.bench.style.sets import Sets
from pipeline.artifacts import storage
from pipeline.style.weights import Weights, load_weights
from pipeline.tracking.journal import Tracker

Group = Literal["frontier", "reranked", "certified", "speed"]


@dataclass(frozen=True)
class Config:
    """What is measured on what."""

    folder: str
    """Where described crops and sets are kept (4 D bytes each), and frontier.png and frontier.json put."""
    sets: tuple[str, ...] = ("demo",)
    """`demo`, FOLDER (searched to its depths), FOLDER:left or FOLDER:right (pictures side by side)."""
    weights: str = "torchvision"
    """VGG-19 checkpoint: path, URL, `torchvision`, or `random`."""
    only: tuple[Group, ...] = ("frontier", "reranked", "certified", "speed")
    """The groups of figures."""
    crops: int = 50_000
    """Crops of all sets among which reranked and certified search; kept in FOLDER/crops-N."""
    sample: int = 1400
    """Crops of each set that the frontier's codes are fitted on."""
    ratios: tuple[int, ...] = frontier.RATIOS
    """Sizes of codes: shares of the exact descriptor's bytes."""
    many: many.Options = many.Options()  # noqa: RUF009
    """Of reranked and certified."""
    speed: speed.Options = speed.Options()  # noqa: RUF009
    """Of speed."""
    tracking: str | None = None
    """MLflow tracking URI that figures and plot are logged to; none: they are not."""
    seed: int = 0
    """Of crops, samples, queries and random directions."""
    threads: int = 1
    """CPU threads."""

    def __post_init__(self) -> None:
        if {"frontier", "certified"} & set(self.only) and len(self.sets) < 2:
            raise ValueError(f"--sets {' '.join(self.sets)}: give two or more; codes are fitted on the other sets")
        if self.sample < 16 or self.crops < 100:
            raise ValueError(f"--sample {self.sample}, --crops {self.crops}: give at least 16 and 100")


def run(config: Config) -> dict[str, float]:
    """Returns the groups' figures."""
    torch.set_num_threads(config.threads)
    folder = Path(config.folder).absolute()
    net, weights = load_weights(config.weights, "vgg19", crops.RELU3_1)
    sets = Sets(config.sets, str(folder), net, weights.identity, config.sample, config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[Group, Callable[[], dict[str, float]]] = {
        "frontier": lambda: measure_frontier(config, sets, weights),
        "reranked": lambda: many.reranked(make_crops(config, sets), config.many, config.seed),
        "certified": lambda: measure_certified(config, sets),
        "speed": lambda: speed.figures(sets, config.speed, config.seed),
    }
    found: dict[str, float] = {}
    for name, measure in groups.items():
        if name in config.only:
            found |= measure()
            print(json.dumps(found), flush=True)
    if config.tracking:
        _track(config, str(folder), weights, found)
    return found


def make_crops(config: Config, sets: Sets) -> str:
    """The folder of the many crops' descriptors, made where they are not there."""
    folder = f"{sets.folder}/crops-{config.crops}"
    found = [picture for source in config.sets for picture in crops.pictures(source)]
    crops.kept(folder, found, config.crops, sets.net, sets.weights, config.seed)
    return folder


def measure_frontier(config: Config, sets: Sets, weights: Weights) -> dict[str, float]:
    """Figures of the project's sketch at 1/500 (or the first ratio); all points in frontier.json and frontier.png."""
    found = []
    for name in sets.names:
        for point in frontier.points(sets, name, config.ratios):
            found.append(point)
            print(json.dumps(point._asdict()), flush=True)
    sizes = {name: len(sets.measured(name)) for name in sets.names}
    note = f"VGG-19 {', '.join(sets.net.layers)}, 64 pixels; {weights}; images: " + ", ".join(
        f"{name} {size}" for name, size in sizes.items()
    )
    content = {"weights": str(weights), "images": sizes, "points": [point._asdict() for point in found]}
    storage.publish_json(f"{sets.folder}/frontier.json", content)
    storage.publish(f"{sets.folder}/frontier.png", frontier.plot(found, note))
    return frontier.figures(found, 500 if 500 in config.ratios else config.ratios[0])


def measure_certified(config: Config, sets: Sets) -> dict[str, float]:
    """Shares compared among the many crops, and within each set."""
    result = many.certified_shares(make_crops(config, sets), sets.folder, config.many, config.seed)
    shares = {name: frontier.certified_share(sets, name) for name in sets.names}
    result |= {f"certified_share_1k_{name}": share for name, share in shares.items()}
    result["certified_share_1k"] = sum(shares.values()) / len(shares)
    result["certified_share_1k_largest"] = max(shares.values())
    return result


def _track(config: Config, folder: str, weights: Weights, found: dict[str, float]) -> None:
    with Tracker(f"{folder}/run", config.tracking, job="bench", name="style-index", resume=False) as tracker:
        tracker.parameters(asdict(config))
        tracker.tags({"weights": str(weights)})
        tracker.scalars({f"style_index/{name}": value for name, value in found.items()}, 0)
        if "frontier" in config.only:
            tracker.picture("frontier", Image.open(io.BytesIO(storage.read(f"{folder}/frontier.png"))), 0)
            tracker.file(f"{folder}/frontier.json")
