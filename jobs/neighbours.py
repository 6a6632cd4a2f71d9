"""Find each image's closest and furthest in style:
python -m jobs.neighbours --data data/demo --descriptors data/styles --output data/neighbours

Exact; the lists do not depend on workers, blocks or schedule. The same command again resumes. For many short
descriptors `--method index` takes the closest from a FAISS index (their recall is measured, and noted on the card); the
furthest are exact there too.

--far-cap 0.1: no image in more than a tenth of the furthest lists, with as much distance as that leaves.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jobs import command
from pipeline.artifacts import artifact, lease, pool, storage
from pipeline.data.shards import DataSet
from pipeline.neighbours import certified, cost, exact, index, lists, sheet, units
from pipeline.neighbours.units import Plan
from pipeline.search import balance
from pipeline.style import descriptors
from pipeline.style.vectors import Vectors

if TYPE_CHECKING:
    from pipeline.tracking.journal import Tracker


@dataclass(frozen=True)
class Config:
    """Whose neighbours, how many, and where to."""

    descriptors: str
    """Folder of the descriptors (jobs.describe)."""
    output: str
    """Folder of the neighbour lists, local or s3://."""
    data: str | None = None
    """Folder of the data set that was described; none: no sheet of pictures, and nothing about labels."""
    near: int = 5
    """k_c: closest images kept; the positives (StEP: 5)."""
    far: int = 13
    """k_f: furthest images kept; the negatives (StEP: 13, more than k_c to blunt outliers)."""
    far_cap: float = 0.0
    """Share of the furthest lists that one image may be in; 0 or 1: any, as StEP's (a few outliers are in most)."""
    split: str = "train"
    """Split of the data set."""
    method: Literal["exact", "certified", "index"] = "exact"
    """certified: exact as well, but only rows that a sketch's bounds leave open are compared. index: the closest are
    approximate (for many short descriptors), the furthest exact."""
    directions: int = 256
    """certified: coordinates of the sketch."""
    index: str = "auto"
    """index: FAISS's index_factory string (IVF4096,Flat, IVF4096,SQ8, OPQ32_160,IVF4096,PQ32x8, HNSW32); auto: by the
    number of images."""
    probes: int = 0
    """index: inverted lists that a query looks into (HNSW: the search's breadth); 0: chosen for you."""
    candidates: int = 50
    """index: rows of each query that are compared exactly."""
    rerank: str = ""
    """index: folder of larger descriptors of the same images, which decide among the candidates of the closest; none:
    the descriptors themselves."""
    recall_sample: int = 1000
    """index: queries that recall is measured on, against exact search."""
    block: int = 0
    """Rows of a block; 0: as many as two blocks of vectors fit in 2 GiB, at most 4096 (index: 16,384, a 64th of
    the rows if that is more, and a multiple of 1024). Does not change a byte."""
    spans: int = 0
    """Tiles per query block, each over a share of the database; 0: as many as keep the workers busy."""
    margin: int = 16
    """Candidates kept beyond k; a row that proves too close to call is widened anyway."""
    memory: str = ""
    """Most that all processes of the search may hold together (8GiB, 500MB): blocks are made to fit; none: no limit.
    Does not change a byte."""
    dry_run: bool = False
    """Say what the search will take, and stop there."""
    workers: int = 2
    """Ray actors; does not change a byte."""
    threads: int = 1
    """CPU threads an actor; does not change a byte."""
    gpus: float = 0
    """exact: GPUs an actor; its products are taken there. Does not change a byte."""

    def __post_init__(self) -> None:
        for option, least in (
            ("near", 1),
            ("far", 1),
            ("workers", 1),
            ("threads", 1),
            ("margin", 1),
            ("recall_sample", 1),
            ("directions", 1),
        ):
            if getattr(self, option) < least:
                raise ValueError(f"--{option.replace('_', '-')} {getattr(self, option)}: give at least {least}")
        for option in ("block", "spans", "probes"):
            if getattr(self, option) < 0:
                raise ValueError(f"--{option} {getattr(self, option)}: give 0 (chosen for you) or more")
        if self.method == "index":
            if self.candidates < self.near:
                raise ValueError(f"--candidates {self.candidates}: give at least --near {self.near}")
            if self.block % index.GROUP:
                raise ValueError(f"--block {self.block}: with --method index give a multiple of {index.GROUP}")
            if self.threads != 1:
                raise ValueError(f"--threads {self.threads}: --method index has one thread an actor; add --workers")
        for option in ("index", "probes", "rerank"):
            if self.method != "index" and getattr(self, option) != getattr(type(self), option):
                raise ValueError(f"--{option} {getattr(self, option)}: goes with --method index alone")
        if self.gpus and self.method != "exact":
            raise ValueError(f"--gpus {self.gpus}: --method {self.method} runs on CPUs; leave it out")
        if self.gpus < 0:
            raise ValueError(f"--gpus {self.gpus}: give 0 or more")
        if self.memory:
            cost.size(self.memory)
        if not 0 <= self.far_cap <= 1:
            raise ValueError(f"--far-cap {self.far_cap}: give a share of the lists, 0 to 1")

    @property
    def capped(self) -> bool:
        return 0 < self.far_cap < 1


def plan_of(config: Config, folder: str, vectors: Vectors, described: artifact.Card) -> Plan:
    """What the method's workers need to know; its scratch folder, within `folder`, is named after what it depends on.

    Raises:
        ValueError: FAISS cannot make the index; an index on an object store.
    """
    if config.method != "exact" and storage.is_remote(folder):
        raise ValueError(
            f"--output {folder}: --method {config.method} maps its files into memory; give a folder of a file system "
            "that all workers share, and copy it"
        )
    asked = vectors, folder, config.near, config.far, config.block, config.workers
    if config.method == "exact":
        return exact.plan(*asked, config.spans, config.margin, "cuda" if config.gpus else "cpu")
    if config.method == "certified":
        return certified.plan(*asked, config.directions)
    rerank = storage.absolute(config.rerank, "--rerank") if config.rerank else ""
    usable = described["rows"] - described["notes"]["bad"]
    return index.plan(*asked, usable, config.index, config.probes, config.candidates, rerank, config.recall_sample)


def plan_within(config: Config, folder: str, vectors: Vectors, described: artifact.Card) -> Plan:
    """`plan_of` with blocks that keep --memory.

    Raises:
        ValueError: the smallest blocks do not, or the given ones; as `plan_of`.
    """
    found = plan_of(config, folder, vectors, described)
    if not config.memory:
        return found
    limit, step = cost.size(config.memory), index.GROUP if config.method == "index" else 1
    capping = _capping_bytes(config, vectors)
    while (peak := cost.peak_bytes(found, vectors, config.workers, capping)) > limit:
        smaller = max(step, found.block // 2 // step * step)
        if config.block or smaller == found.block:
            raise ValueError(
                f"--memory {config.memory}: {-(-peak >> 20)} MiB are needed with blocks of {found.block} rows and "
                f"--workers {config.workers}; give more, {'smaller blocks' if config.block else 'fewer workers'}, or "
                "shorter descriptors (jobs.sketch)"
            )
        found = plan_of(replace(config, block=smaller), folder, vectors, described)
    return found


def _capping_bytes(config: Config, vectors: Vectors) -> int:
    if not config.capped:
        return 0
    return balance.capping_bytes(len(vectors), vectors.dimension, config.far, config.far_cap)


def run(config: Config, tracker: Tracker | None = None) -> artifact.Card:
    """Find what is missing; returns the card.

    Raises:
        ValueError: descriptors of another data set, more neighbours wanted than there are, an index that cannot be
            made, a cap that too few images can keep, or another artifact there.
    """
    began = time.perf_counter()
    folder = storage.absolute(config.output, "--output")
    source = storage.absolute(config.descriptors, "--descriptors")
    data = DataSet(storage.absolute(config.data, "--data"), config.split) if config.data is not None else None
    described = artifact.load_card(source, "descriptors")
    if data is not None:
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
    vectors = Vectors(source)
    raw = storage.join(folder, "raw") if config.capped else folder
    plan = plan_within(config, raw, vectors, described)
    inputs, options = plan.request(described)
    asked = {**options, "far_cap": config.far_cap} if config.capped else options
    if config.dry_run:
        artifact.check(folder, "neighbours", lists.VERSION, inputs, asked)
        _foretell(config, plan, vectors)
        return {"kind": "neighbours", "inputs": inputs, "options": options}
    with lease.lease(folder):
        card = artifact.begin(folder, "neighbours", lists.VERSION, inputs, asked)
        if card is None:
            found = artifact.begin(raw, "neighbours", lists.VERSION, inputs, options) if config.capped else None
            if found is None:
                artifact.record(folder, job="neighbours", event="plan", **asdict(_foretell(config, plan, vectors)))
            try:
                card = found or _search(config, raw, plan, vectors, described, data)
            except index.CannotTrain:  # nothing was found: another index may have this folder
                for name in (storage.join(raw, "request.json"), storage.join(folder, "request.json"), plan.scratch):
                    storage.remove(name)
                raise
            if config.capped:
                card = _cap(config, card, raw, folder, vectors, described, data)
        seconds = time.perf_counter() - began
        spent = {"seconds": seconds, "images_per_second": len(vectors) / seconds, "driver_kb": pool.peak_kb()}
        artifact.record(folder, job="neighbours", event="end", **spent)
    notes = card["notes"]
    print(f"{card['rows']} images, {config.near} closest and {config.far} furthest each, {seconds:.1f} s: {folder}")
    shown = ("far_", "same_", "without", "random", "recall_", "index", "compared")
    print(", ".join(f"{k} {v}" for k, v in notes.items() if k.startswith(shown)))
    if tracker is not None:
        _track(tracker, folder, card, seconds)
    return card


def _foretell(config: Config, plan: Plan, vectors: Vectors) -> cost.Estimate:
    """Print what the search will take, all of it (where it goes on, less is left)."""
    found = cost.estimate(plan, vectors, config.workers, config.threads, _capping_bytes(config, vectors))
    print(
        f"plan: {config.method} search of {plan.rows} images in {len(plan.blocks)} blocks of {plan.block}: "
        f"{found.operations:.2g} operations, reads {cost.text(found.read)}, writes {cost.text(found.written)}, "
        f"holds at most {cost.text(found.peak)}{f' of {config.memory}' if config.memory else ''}, "
        f"about {found.seconds:.0f} s with {config.workers} workers of {config.threads} threads",
        flush=True,
    )
    return found


class _Progress:
    """A line now and then: units done, seconds, seconds that are likely left."""

    def __init__(self, units: int) -> None:
        self.units, self.done, self.began, self.said = units, 0, time.perf_counter(), time.perf_counter()

    def step(self) -> None:
        self.done += 1
        now = time.perf_counter()
        if now - self.said > 20 and self.done < self.units:
            self.said, spent = now, now - self.began
            left = spent / self.done * (self.units - self.done)
            print(f"{self.done} of {self.units} units done, {spent:.0f} s, about {left:.0f} s left", flush=True)


def _search(
    config: Config,
    folder: str,
    plan: Plan,
    vectors: Vectors,
    described: artifact.Card,
    data: DataSet | None,
) -> artifact.Card:
    numbers = list(range(described["parts"]))
    done = artifact.done_parts(folder)
    parts = lists.Parts(plan, folder, vectors.part_rows, [part for part in numbers if part not in done])
    parts.publish()
    measures = storage.join(folder, "search.json")
    measured = storage.exists(measures)
    # What is measured is of all blocks; those of finished parts are kept until it is.
    every = plan.measured_by_blocks and not measured
    if items := plan.items(list(range(len(plan.blocks))) if every else parts.blocks()):
        arguments, progress = [plan, lists.centre(vectors)], _Progress(len(items))
        for _, counts in pool.each(units.unit_worker, arguments, items, config.workers, config.threads, config.gpus):
            artifact.record(folder, job="neighbours", **counts)
            progress.step()
            if counts["what"] == "lists":
                parts.publish()
    _, found_lists = lists.read_lists(folder, described["parts"], config.near, config.far)
    if not measured:
        storage.publish_json(measures, plan.measure(found_lists))
    found = storage.read_json(measures)
    notes = {**_notes(folder, described, data, found_lists), **found, "descriptor_bytes": vectors.bytes}
    card = artifact.finish(folder, numbers, notes)
    for name in storage.names(folder):
        if name.startswith("tiles-"):
            storage.remove(storage.join(folder, name))
    return card


def _cap(
    config: Config,
    found: artifact.Card,
    raw: str,
    folder: str,
    vectors: Vectors,
    described: artifact.Card,
    data: DataSet | None,
) -> artifact.Card:
    """The finished artifact `raw` with furthest lists that keep the cap, in `folder`; `raw` is removed."""
    parts = described["parts"]
    block = max(1, min(1024, (1 << 30) // (8 * vectors.dimension)))
    far, distance = balance.balanced(vectors, config.far, config.far_cap, block=block)
    lists.publish_far(raw, folder, parts, far, distance)
    _, before = lists.read_lists(raw, parts, config.near, config.far)
    _, found_lists = lists.read_lists(folder, parts, config.near, config.far)
    mean = float(np.nanmean(np.sqrt(before["far_distance"])))
    kept = float(np.nanmean(np.sqrt(distance))) / mean if mean else 1.0
    notes = {**found["notes"], **_notes(folder, described, data, found_lists), "far_mean_distance_kept": kept}
    card = artifact.finish(folder, range(parts), notes)
    storage.remove(raw)
    return card


def _notes(
    folder: str, described: artifact.Card, data: DataSet | None, found_lists: dict[str, np.ndarray]
) -> dict[str, Any]:
    share = None
    if data is not None:
        share = lists.same_label(found_lists["near"], data.labels, min(5, found_lists["near"].shape[1]))
        picture = sheet.picture(found_lists["near"], found_lists["far"], data, described)
        storage.publish(storage.join(folder, "sheet.png"), picture)
    return {
        **lists.hubs(found_lists["far"]),
        **({} if share is None else {"same_label_closest": share}),
        "weights": described["notes"]["weights"],
        "random_weights": described["notes"]["random_weights"],
        "without_descriptor": described["notes"]["bad"],
    }


def _track(tracker: Tracker, folder: str, card: artifact.Card, seconds: float) -> None:
    import io

    from PIL import Image

    numbers = {
        k: float(v)
        for k, v in card["notes"].items()
        if k.startswith(("far_", "same_", "recall_")) and not isinstance(v, list)
    }
    tracker.scalars({f"neighbours/{k}": v for k, v in {**numbers, "seconds": seconds}.items()}, 0)
    sheet = storage.join(folder, "sheet.png")
    if storage.exists(sheet):
        tracker.picture("neighbours", Image.open(io.BytesIO(storage.read(sheet))), 0)
    tracker.file(storage.join(folder, "card.json"))


if __name__ == "__main__":
    command.main(Config, run, __doc__)
