"""Find each image's closest and furthest in style:
python -m jobs.neighbours --data data/demo --descriptors data/styles --output data/neighbours

Exact; the lists do not depend on workers, blocks or schedule. The same command again resumes.

--far-cap 0.1: no image in more than a tenth of the furthest lists, with as much distance as that leaves.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs import command
from pipeline import artifacts, balance, descriptors, neighbours, storage, workers
from pipeline.neighbours import Plan
from pipeline.shards import DataSet

if TYPE_CHECKING:
    from pipeline.tracking import Tracker


@dataclass(frozen=True)
class Config:
    """Whose neighbours, how many, and where to."""

    data: str
    """Folder of the data set that was described."""
    descriptors: str
    """Folder of its descriptors (jobs.describe)."""
    output: str
    """Folder of the neighbour lists, local or s3://."""
    near: int = 5
    """k_c: closest images kept; the positives (StEP: 5)."""
    far: int = 13
    """k_f: furthest images kept; the negatives (StEP: 13, more than k_c to blunt outliers)."""
    far_cap: float = 0.0
    """Share of the furthest lists that one image may be in; 0 or 1: any, as StEP's (a few outliers are in most)."""
    split: str = "train"
    """Split of the data set."""
    block: int = 0
    """Rows of a block; 0: as many as two blocks of vectors fit in 2 GiB, at most 1024. Does not change a byte."""
    spans: int = 0
    """Tiles per query block, each over a share of the database; 0: as many as keep the workers busy."""
    margin: int = 16
    """Candidates kept beyond k; a row that proves too close to call is widened anyway."""
    workers: int = 2
    """Ray actors; does not change a byte."""
    threads: int = 1
    """CPU threads an actor; does not change a byte."""

    def __post_init__(self) -> None:
        for option, least in (("near", 1), ("far", 1), ("workers", 1), ("threads", 1), ("margin", 1)):
            if getattr(self, option) < least:
                raise ValueError(f"--{option} {getattr(self, option)}: give at least {least}")
        for option in ("block", "spans"):
            if getattr(self, option) < 0:
                raise ValueError(f"--{option} {getattr(self, option)}: give 0 (chosen for you) or more")
        if not 0 <= self.far_cap <= 1:
            raise ValueError(f"--far-cap {self.far_cap}: give a share of the lists, 0 to 1")

    @property
    def capped(self) -> bool:
        return 0 < self.far_cap < 1


def plan_of(config: Config, folder: str, rows: int, dimension: int) -> Plan:
    """Blocks and spans, and the scratch folder that belongs to them."""
    block = config.block or max(1, min(1024, (1 << 31) // (8 * dimension), -(-rows // config.workers)))
    blocks = -(-rows // block)
    spans = min(blocks, config.spans or max(1, -(-2 * config.workers // blocks)))
    scratch = storage.join(folder, f"tiles-{block}-{spans}-{config.margin}")
    source = storage.absolute(config.descriptors, "--descriptors")
    return Plan(source, scratch, config.near, config.far, config.margin, rows, block, spans)


def run(config: Config, tracker: Tracker | None = None) -> artifacts.Card:
    """Find what is missing; returns the card.

    Raises:
        ValueError: descriptors of another data set, more neighbours wanted than there are, a cap that too few images
            can keep, or another artifact there.
    """
    began = time.perf_counter()
    folder = storage.absolute(config.output, "--output")
    source = storage.absolute(config.descriptors, "--descriptors")
    data = DataSet(storage.absolute(config.data, "--data"), config.split)
    described = artifacts.load_card(source, "descriptors")
    descriptors.check(described, data, source)
    usable = described["rows"] - described["notes"]["bad"]
    for option in ("near", "far"):
        if getattr(config, option) > usable - 1:
            raise ValueError(
                f"--{option} {getattr(config, option)}: {source} has {usable} described images, so each has "
                f"{max(0, usable - 1)} others; ask for no more"
            )
    if config.capped:
        balance.limit_of(usable, config.far, config.far_cap)
    inputs = {"dataset": data.fingerprint, "split": data.split, "descriptors": described["content"]}
    with storage.lease(folder):
        options: dict[str, Any] = {"near": config.near, "far": config.far}
        capped = {**options, "far_cap": config.far_cap} if config.capped else options
        card = artifacts.begin(folder, "neighbours", neighbours.VERSION, inputs, capped)
        if card is None and config.capped:
            exact = storage.join(folder, "exact")
            if artifacts.begin(exact, "neighbours", neighbours.VERSION, inputs, options) is None:
                _search(config, exact, described, data)
            card = _cap(config, exact, folder, described, data)
        elif card is None:
            card = _search(config, folder, described, data)
        seconds = time.perf_counter() - began
        artifacts.record(folder, job="neighbours", event="end", seconds=seconds)
    notes = card["notes"]
    print(f"{card['rows']} images, {config.near} closest and {config.far} furthest each, {seconds:.1f} s: {folder}")
    print(", ".join(f"{k} {v}" for k, v in notes.items() if k.startswith(("far_", "same_", "without", "random"))))
    if tracker is not None:
        _track(tracker, folder, card, seconds)
    return card


def _search(config: Config, folder: str, described: artifacts.Card, data: DataSet) -> artifacts.Card:
    numbers = list(range(described["parts"]))
    done = artifacts.done_parts(folder)
    if todo := [part for part in numbers if part not in done]:
        vectors = descriptors.Vectors(storage.absolute(config.descriptors, "--descriptors"))
        plan = plan_of(config, folder, len(vectors), vectors.dimension)
        parts = neighbours.Parts(plan, folder, vectors.part_rows, todo)
        parts.publish()
        items = plan.items(parts.blocks())
        arguments = [plan, neighbours.centre(vectors)]
        pool = workers.each(neighbours.make, arguments, items, config.workers, config.threads) if items else ()
        for _, counts in pool:
            artifacts.record(folder, job="neighbours", **counts)
            if counts["what"] == "lists":
                parts.publish()
    card = artifacts.finish(folder, numbers, _notes(config, folder, described, data))
    for name in storage.names(folder):
        if name.startswith("tiles-"):
            storage.remove(storage.join(folder, name))
    return card


def _cap(config: Config, exact: str, folder: str, described: artifacts.Card, data: DataSet) -> artifacts.Card:
    """The finished artifact `exact` with furthest lists that keep the cap, in `folder`; `exact` is removed."""
    parts = described["parts"]
    vectors = descriptors.Vectors(storage.absolute(config.descriptors, "--descriptors"))
    block = plan_of(config, folder, len(vectors), vectors.dimension).block
    far, distance = balance.balanced(vectors, config.far, config.far_cap, block=block)
    neighbours.publish_far(exact, folder, parts, far, distance)
    raw = neighbours.read_lists(exact, parts, config.near, config.far)[1]["far_distance"]
    mean = float(np.nanmean(np.sqrt(raw)))
    kept = float(np.nanmean(np.sqrt(distance))) / mean if mean else 1.0
    notes = {**_notes(config, folder, described, data), "far_mean_distance_kept": kept}
    card = artifacts.finish(folder, range(parts), notes)
    storage.remove(exact)
    return card


def _notes(config: Config, folder: str, described: artifacts.Card, data: DataSet) -> dict[str, Any]:
    _, lists = neighbours.read_lists(folder, described["parts"], config.near, config.far)
    share = neighbours.same_label(lists["near"], data.labels, min(5, config.near))
    picture = neighbours.picture(lists["near"], lists["far"], data, described)
    storage.publish(storage.join(folder, "sheet.png"), picture)
    return {
        **neighbours.hubs(lists["far"]),
        **({} if share is None else {"same_label_closest": share}),
        "weights": described["notes"]["weights"],
        "random_weights": described["notes"]["random_weights"],
        "without_descriptor": described["notes"]["bad"],
    }


def _track(tracker: Tracker, folder: str, card: artifacts.Card, seconds: float) -> None:
    import io

    from PIL import Image

    numbers = {k: float(v) for k, v in card["notes"].items() if k.startswith(("far_", "same_"))}
    tracker.scalars({f"neighbours/{k}": v for k, v in {**numbers, "seconds": seconds}.items()}, 0)
    tracker.picture("neighbours", Image.open(io.BytesIO(storage.read(storage.join(folder, "sheet.png")))), 0)
    tracker.file(storage.join(folder, "card.json"))


if __name__ == "__main__":
    command.main(Config, run, __doc__)
