"""A whole search: descriptors in, the artifact of neighbour lists out.

from pipeline.neighbours.options import Exact
from pipeline.neighbours.run import Search

card = Search("/data/styles", "/data/neighbours", Exact(near=5, far=13)).run()
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.artifacts import artifact, lease, pool, storage
from pipeline.data.shards import DataSet
from pipeline.neighbours import cost, index, lists, sheet, units
from pipeline.neighbours.options import Options, plan_within
from pipeline.search import balance
from pipeline.style import descriptors
from pipeline.style.vectors import Vectors


class Search:
    """One search of the descriptors in folder `source`, for the artifact in `folder`. With the data set that was
    described, `data`, the card has the share of equal labels and the folder a sheet of pictures.

    Raises:
        ValueError: descriptors of another data set, more neighbours wanted than there are, an index that cannot be
            made, a cap that too few images can keep, or a limit of memory that no blocks keep.
    """

    def __init__(self, source: str, folder: str, options: Options, data: DataSet | None = None) -> None:
        self.folder, self.options, self.data = folder, options, data
        self.described = artifact.load_card(source, "descriptors")
        if data is not None:
            descriptors.check(self.described, data, source)
        usable = self.described["rows"] - self.described["notes"]["bad"]
        for option in ("near", "far"):
            if (wanted := getattr(options, option)) > usable - 1:
                raise ValueError(
                    f"--{option} {wanted}: {source} has {usable} described images, so each has "
                    f"{max(0, usable - 1)} others; ask for no more"
                )
        if options.capped:
            balance.limit_of(usable, options.far, options.far_cap)
        self.vectors = Vectors(source)
        self.raw = storage.join(folder, "raw") if options.capped else folder
        """Folder of the lists before any cap."""
        self.plan = plan_within(options, self.vectors, self.raw, self.described, self._capping_bytes)
        self.inputs, self.raw_options = self.plan.request(self.described)
        self.asked = {**self.raw_options, "far_cap": options.far_cap} if options.capped else self.raw_options
        """The options as the artifact's request holds them."""

    @property
    def _capping_bytes(self) -> int:
        if not self.options.capped:
            return 0
        size = len(self.vectors), self.vectors.dimension
        return balance.capping_bytes(*size, self.options.far, self.options.far_cap)

    def check(self) -> artifact.Card:
        """The artifact's request; writes nothing. Raises ValueError where the folder holds another."""
        return artifact.check(self.folder, "neighbours", lists.VERSION, self.inputs, self.asked)

    def foretell(self) -> cost.Estimate:
        """Print what the search will take, all of it (where it goes on, less is left)."""
        threads, _ = self.options.actor
        found = cost.estimate(self.plan, self.vectors, self.options.at_once, threads, self._capping_bytes)
        limit = "" if self.options.memory is None else f" of {cost.text(self.options.memory)}"
        print(
            f"plan: {self.options.method} search of {self.plan.rows} images in {len(self.plan.blocks)} blocks of "
            f"{self.plan.block}: {found.operations:.2g} operations, reads {cost.text(found.read)}, writes "
            f"{cost.text(found.written)}, holds at most {cost.text(found.peak)}{limit}, "
            f"about {found.seconds:.0f} s with {self.options.at_once} workers of {threads} threads",
            flush=True,
        )
        return found

    def run(self) -> artifact.Card:
        """Find what is missing; returns the card.

        Raises:
            ValueError: the folder holds another artifact, or FAISS cannot train the index on these vectors.
        """
        began = time.perf_counter()
        with lease.lease(self.folder):
            card = artifact.begin(self.folder, "neighbours", lists.VERSION, self.inputs, self.asked)
            if card is None:
                card = self._capped() if self.options.capped else self._found()
            seconds = time.perf_counter() - began
            spent = {"seconds": seconds, "images_per_second": len(self.vectors) / seconds, "driver_kb": pool.peak_kb()}
            artifact.record(self.folder, job="neighbours", event="end", **spent)
        return card

    def _found(self) -> artifact.Card:
        """The lists of `raw`, which is claimed."""
        artifact.record(self.folder, job="neighbours", event="plan", **asdict(self.foretell()))
        numbers = list(range(self.described["parts"]))
        done = artifact.done_parts(self.raw)
        parts = lists.Parts(self.plan, self.raw, self.vectors.part_rows, [n for n in numbers if n not in done])
        parts.publish()
        measures = storage.join(self.raw, "search.json")
        measured = storage.exists(measures)
        # What is measured is of all blocks; those of finished parts are kept until it is.
        every = self.plan.measured_by_blocks and not measured
        items = self.plan.items(list(range(len(self.plan.blocks))) if every else parts.blocks())
        if items:
            self._do(items, parts)
        found_lists = self._lists(self.raw)
        if not measured:
            storage.publish_json(measures, self.plan.measure(found_lists))
        measured_notes = storage.read_json(measures)
        notes = {**self._notes(self.raw, found_lists), **measured_notes, "descriptor_bytes": self.vectors.bytes}
        card = artifact.finish(self.raw, numbers, notes)
        for name in storage.names(self.raw):
            if name.startswith("tiles-"):
                storage.remove(storage.join(self.raw, name))
        return card

    def _do(self, items: list[units.Item], parts: lists.Parts) -> None:
        """Do the units `items`; parts are published as soon as their lists are there."""
        arguments = [self.plan, lists.centre(self.vectors)]
        work = items, self.options.workers, *self.options.actor
        try:
            for _, counts in pool.each(units.unit_worker, arguments, *work, what="neighbours"):
                artifact.record(self.raw, job="neighbours", **counts)
                if counts["what"] == "lists":
                    parts.publish()
        except index.CannotTrain:  # nothing was found: another index may have this folder
            for folder in (self.raw, self.folder):
                storage.remove(storage.join(folder, "request.json"))
            storage.remove(self.plan.scratch)
            raise

    def _capped(self) -> artifact.Card:
        """Furthest lists that keep the cap, in `folder`; the lists without it, `raw`, are found first, and removed."""
        found = artifact.begin(self.raw, "neighbours", lists.VERSION, self.inputs, self.raw_options) or self._found()
        options, parts = self.options, self.described["parts"]
        block = max(1, min(1024, (1 << 30) // (8 * self.vectors.dimension)))
        far, distance = balance.balanced(self.vectors, options.far, options.far_cap, block=block)
        lists.publish_far(self.raw, self.folder, parts, far, distance)
        mean = float(np.nanmean(np.sqrt(self._lists(self.raw)["far_distance"])))
        kept = float(np.nanmean(np.sqrt(distance))) / mean if mean else 1.0
        notes = {**found["notes"], **self._notes(self.folder, self._lists(self.folder)), "far_mean_distance_kept": kept}
        card = artifact.finish(self.folder, range(parts), notes)
        storage.remove(self.raw)
        return card

    def _lists(self, folder: str) -> dict[str, np.ndarray]:
        return lists.read_lists(folder, self.described["parts"], self.options.near, self.options.far)[1]

    def _notes(self, folder: str, found: dict[str, np.ndarray]) -> dict[str, Any]:
        """What the card says of the lists; publishes their sheet."""
        share = None
        if self.data is not None:
            share = lists.same_label(found["near"], self.data.labels, min(5, found["near"].shape[1]))
            picture = sheet.picture(found["near"], found["far"], self.data, self.described)
            storage.publish(storage.join(folder, "sheet.png"), picture)
        of_descriptors = self.described["notes"]
        return {
            **lists.hubs(found["far"]),
            **({} if share is None else {"same_label_closest": share}),
            "weights": of_descriptors["weights"],
            "random_weights": of_descriptors["random_weights"],
            "without_descriptor": of_descriptors["bad"],
        }
