"""Neighbours of many vectors: the nearest from a FAISS index, re-ranked exactly; the furthest exact, from a shell.

Units of work, each one published file, so that any may be done again, on any worker, after any kill:

    train     the index is trained on a seeded sample of rows, and the sample's principal directions are found
    radii     of a piece (a run of the artifact's parts): squared distances from the centre
    truth     exact lists of a seeded sample of rows, which the recall on the card is measured against
    piece     a piece's rows in a copy of the trained index
    merge     the pieces' inverted lists as one file on disk, mapped into memory by every worker
    lists     a query block: candidates from the index, re-ranked; furthest lists (pipeline.furthest)

Same bytes for any workers and blocks: FAISS runs on one thread, over groups of queries that do not depend on them,
since a product's last bits depend on how many rows it takes. (Another machine's products may differ in them.)

Memory of a worker: `Plan.worker_bytes`, of which the index and the shell are mapped files that all of a host share. An
index without inverted lists is mapped where FAISS can.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import torch
from faiss.contrib.ondisk import merge_ondisk

from pipeline.artifacts import artifact, storage
from pipeline.neighbours import lists, shell, units
from pipeline.neighbours.units import SEAL, Item, Units, Work, load_arrays, publish_sealed, save_arrays
from pipeline.search import best, bounds, recall, scanning
from pipeline.search.bounds import Array
from pipeline.style.vectors import Vectors

GROUP = 1024
"""Queries of one call of FAISS; blocks are multiples of it."""
PIECE_ROWS = 65_536
"""Rows of a piece at least: a piece's file holds all centroids again."""
SAMPLE = 64
"""Training rows of an inverted list (FAISS warns below 39, and takes 256 at most)."""
SAMPLE_LEAST = 65_536
"""Training rows at least, where there are so many."""
SEED = 0
PROBES = 16
ROUNDS = 10
"""Of FAISS's k-means for inverted lists."""


@dataclass(frozen=True)
class Plan(units.Plan):
    """What every worker needs to know."""

    index: str
    """index_factory's description."""
    probes: int
    """Inverted lists that a query looks into."""
    candidates: int
    """Rows of each query that are re-ranked."""
    rerank: str
    """Folder of larger descriptors that decide among them; empty: the vectors themselves."""
    sample: int
    """Queries that recall is measured on."""
    pieces: tuple[tuple[int, int], ...]
    """(first row, last + 1) of each."""

    def name(self, item: Item) -> str:
        kind, number = item
        ending = "index" if kind in ("piece", "merge") else "npz"
        return f"{kind}-{number:05d}.{ending}"

    def units(self, blocks: list[int]) -> list[Item]:
        found: list[Item] = [("train", 0), ("truth", 0)]
        found += [(kind, number) for kind in ("radii", "piece") for number in range(len(self.pieces))]
        return [*found, ("merge", 0), *(("lists", b) for b in blocks)]

    def items(self, blocks: list[int]) -> list[Item]:
        found = super().items(blocks)
        lost = not storage.exists(storage.join(self.scratch, "merge.ivfdata"))
        if lost and ("merge", 0) not in found and _mergeable(_empty(self.index, Vectors(self.descriptors).dimension)):
            storage.remove(self.path(("merge", 0)))  # it names a file that was removed
            return super().items(blocks)
        return found

    def worker(self, centre: Array) -> Worker:
        return Worker(self, centre)

    def request(self, described: artifact.Card) -> tuple[dict[str, Any], dict[str, Any]]:
        """Raises ValueError where `rerank` holds descriptors of other images."""
        inputs, options = super().request(described)
        options |= {"method": "index", "index": self.index, "probes": self.probes, "candidates": self.candidates}
        options |= {"recall_sample": self.sample}
        if self.rerank:
            larger = artifact.load_card(self.rerank, "descriptors")
            for what in ("dataset", "split"):
                if larger["inputs"][what] != inputs[what] or larger["rows"] != described["rows"]:
                    raise ValueError(
                        f"--rerank {self.rerank}: descriptors of another {what} ({larger['inputs'][what]}, "
                        f"{larger['rows']} images) than --descriptors ({inputs[what]}, {described['rows']} images)"
                    )
            inputs["rerank"] = larger["content"]
        return inputs, options

    def measure(self, lists: dict[str, Array]) -> dict[str, Any]:
        """Recall, the index's bytes, the share of rows that the furthest lists took to prove."""
        truth = load_arrays(self.path(("truth", 0)))
        blocks = [load_arrays(self.path(("lists", b))) for b in range(len(self.blocks))]
        scanned, certified = (np.concatenate([block[name] for block in blocks]) for name in ("scanned", "certified"))
        valid = lists["far"][:, 0] >= 0
        usable = int(valid.sum())
        files = [name for name in storage.names(self.scratch) if name.startswith("merge") and not name.endswith(SEAL)]
        size = sum(storage.size(storage.join(self.scratch, name)) for name in files)
        found: dict[str, Any] = {"method": "index", "index": self.index, "probes": self.probes}
        found |= {"bytes_per_image": size / usable, "recall_queries": len(truth["rows"])}
        for name, k, sign in (("near", self.near, 1), ("far", self.far, -1)):
            shares = recall.recall(lists[f"{name}_distance"][truth["rows"]], truth[name], sign)
            found |= recall.notes(f"recall_{name}{k}", shares)
        share = scanned[valid] / usable
        found["far_certified_share"] = float(certified[valid].mean())
        found |= {"far_scanned_share": float(share.mean()), "far_scanned_share_largest": float(share.max())}
        return found

    def worker_bytes(self, vectors: Vectors) -> int:
        n, d, block = self.rows, vectors.dimension, self.block
        decisive = Vectors(self.rerank).dimension if self.rerank else d
        working = 4 * block * (3 * d + decisive) + 100 * block * min(self.candidates, n)
        sample = training_rows(self.index, d, n)
        training = 8 * d * sample + 16 * d * min(sample, shell.ROWS)
        piece = 2 * (4 * d + 8) * max(stop - start for start, stop in self.pieces)
        mapped = n * (4 * d + 8) + 12 * d * min(n, shell.CHUNK)
        return max(working + 60 * block * (self.near + self.far), training, piece) + 40 * n + mapped

    def work(self, vectors: Vectors) -> Work:
        n, d, blocks, pieces = float(self.rows), vectors.dimension, len(self.blocks), len(self.pieces)
        lists, queries = inverted_lists(self.index, d), min(n, self.sample)
        sample = min(n, training_rows(self.index, d, self.rows))
        train = 2 * d * lists * sample * ROUNDS
        train += 8 * shell.ROUNDS * shell.DIRECTIONS * d * min(sample, SAMPLE_LEAST)
        truth = {"products": 4 * queries * n * d, "scores": 2 * queries * n, "rows": 2 * n}
        found = {"products": 2 * n * lists * d + 4 * n * shell.meets(self.rows) * (shell.DIRECTIONS + 1)}
        if lists:
            found["scan"] = n * n * d * min(1.0, self.probes / lists)
        else:  # as if all were compared: right for Flat, too much for graphs
            found["products"] += 2 * n * n * d
        # Each block reads its own rows, and all that are candidates of one of them.
        found |= {"pairs": n * min(self.candidates, n) * d, "rows": n * (blocks + 1)}
        stages = [
            [Units(1, {"products": train, "rows": n}), Units(1, truth)],
            [Units(pieces, {"rows": n}), Units(pieces, {"products": 2 * n * lists * d, "rows": n})],
            [Units(blocks, found)],
        ]
        return Work(stages, 2 * n * (4 * d + 8) + 12 * n * (self.near + self.far))


def plan(
    vectors: Vectors,
    folder: str,
    near: int,
    far: int,
    block: int,
    workers: int,
    usable: int,
    index: str,
    probes: int,
    candidates: int,
    rerank: str,
    sample: int,
) -> Plan:
    """block, probes: 0: chosen. workers: who share the blocks. usable: rows with a vector.

    Raises:
        ValueError: FAISS cannot make the index, or there are fewer vectors than inverted lists.
    """
    rows, (description, found) = len(vectors), automatic(len(vectors))
    if index != "auto":
        description, found = index, PROBES
    check(description, vectors.dimension, usable)
    dimension = Vectors(rerank).dimension if rerank else vectors.dimension
    # Each block reads all rows that are candidates of its own, which is nearly all there are: few blocks for many rows.
    most = max(16_384, min(rows // 64, rows // (4 * workers)))
    block = block or min(most, (1 << 32) // (4 * dimension), -(-rows // workers))
    block = max(1, -(-block // GROUP)) * GROUP
    return Plan(
        vectors.folder,
        storage.join(folder, f"tiles-index-{block}"),
        near,
        far,
        rows,
        block,
        index=description,
        probes=probes or found,
        candidates=candidates,
        rerank=rerank,
        sample=sample,
        pieces=units.pieces(vectors.part_rows, PIECE_ROWS),
    )


class CannotTrain(ValueError):
    """FAISS refuses the sample: too few vectors, most likely."""


def automatic(rows: int) -> tuple[str, int]:
    """(description, probes) for so many rows: about 4 sqrt N inverted lists."""
    if rows < 20_000:
        return "Flat", 1
    lists = 2 ** round(np.log2(4 * rows**0.5))
    return f"IVF{lists},Flat", PROBES


def check(description: str, dimension: int, usable: int) -> None:
    """Raises ValueError where FAISS cannot make such an index, or there are fewer vectors than inverted lists."""
    ivf = _ivf(_empty(description, dimension))
    if ivf is not None and ivf.nlist > usable:
        raise ValueError(f"--index {description}: {ivf.nlist} inverted lists for {usable} vectors; ask for fewer lists")


def inverted_lists(description: str, dimension: int) -> int:
    """Their number; 0: it has none."""
    ivf = _ivf(_empty(description, dimension))
    return 0 if ivf is None else int(ivf.nlist)


def training_rows(description: str, dimension: int, rows: int) -> int:
    """Rows of the sample that it is trained on."""
    return min(rows, max(SAMPLE_LEAST, SAMPLE * inverted_lists(description, dimension)))


def _empty(description: str, dimension: int) -> Any:
    if re.search(r"(IVF|HNSW|NSG)0(?!\d)|IDMap", description):
        raise ValueError(
            f"--index {description}: no lists or links, or an IDMap, which is added where it is needed; leave it out"
        )
    try:
        index = faiss.index_factory(dimension, description)
    except RuntimeError as error:
        reason = re.sub(r"^.*Error: |\s+$", "", str(error).replace("\n", " "))
        raise ValueError(
            f"--index {description}: FAISS makes no such index of vectors of {dimension} numbers ({reason}); give an "
            "index_factory string such as IVF4096,Flat or HNSW32, or auto"
        ) from error
    # Positions are kept with the vectors, as some rows have none.
    return index if _mergeable(index) else faiss.index_factory(dimension, f"IDMap,{description}")


def _ivf(index: Any) -> Any:
    """Its inverted file, or None."""
    found = faiss.try_extract_index_ivf(index)
    return None if found is None else faiss.downcast_index(found)


def _mergeable(index: Any) -> bool:
    """Whether it is made piece by piece and merged on disk; others take all rows in one piece."""
    plain = isinstance(faiss.downcast_index(index), (faiss.IndexIVF, faiss.IndexPreTransform))
    return plain and not isinstance(_ivf(index), (type(None), faiss.IndexIVFFastScan, faiss.IndexIVFPQR))


class Worker(units.Worker):
    """One actor's state: the vectors, and once they are needed the merged index and the shell."""

    plan: Plan

    def __init__(self, plan: Plan, centre: Array) -> None:
        torch.set_num_threads(1)
        faiss.omp_set_num_threads(1)
        self.plan, self.centre = plan, centre
        self.vectors = Vectors(plan.descriptors)
        self.decisive = Vectors(plan.rerank) if plan.rerank else self.vectors
        self._index: Any = None
        self._shell: shell.Shell | None = None

    def _trained(self) -> Any:
        self.wait(("train", 0))
        return faiss.deserialize_index(load_arrays(self.plan.path(("train", 0)))["index"])

    def _publish(self, item: Item, index: Any) -> None:
        with storage.temporary(self.plan.path(item)) as draft:
            faiss.write_index(index, draft)
            publish_sealed(self.plan.path(item), draft)

    def train(self, _: int) -> None:
        index = _empty(self.plan.index, self.vectors.dimension)
        count = training_rows(self.plan.index, self.vectors.dimension, self.plan.rows)
        rows = np.sort(np.random.default_rng(SEED).choice(self.plan.rows, count, replace=False))
        x, valid = self.vectors.take(rows)
        x = np.ascontiguousarray(x[valid])
        bounds.must_be_finite(scanning.squares(x, self.centre), self.plan.descriptors)
        if not index.is_trained:
            try:
                index.train(x)
            except RuntimeError as error:
                raise CannotTrain(
                    f"--index {self.plan.index}: FAISS cannot train it on {len(x)} vectors ({error}); choose a "
                    "smaller one"
                ) from error
        basis = shell.directions(x[:: -(-len(x) // SAMPLE_LEAST)], self.centre)
        save_arrays(self.plan.path(("train", 0)), index=faiss.serialize_index(index), basis=basis)

    def radii(self, number: int) -> None:
        start, stop = self.plan.pieces[number]
        radii = np.full(stop - start, np.nan)
        for first, x, valid in scanning.blocks(self.vectors, start, stop):
            own = self.vectors.private[first : first + len(x)][valid]
            found = scanning.squares(x[valid], self.centre) + own
            bounds.must_be_finite(found, self.plan.descriptors)
            radii[first - start : first - start + len(x)][valid] = found
        save_arrays(self.plan.path(("radii", number)), radii=radii)

    def truth(self, _: int) -> None:
        """The sampled rows' exact lists: near by what decides the near lists, far by the vectors."""
        valid = np.concatenate([good for _, _, good in scanning.blocks(self.vectors)])
        rows = recall.sample(valid, self.plan.sample, SEED)
        saved = {"rows": rows}
        for name, k, sign, vectors in (
            ("near", self.plan.near, 1, self.decisive),
            ("far", self.plan.far, -1, self.vectors),
        ):
            centre = self.centre if vectors is self.vectors else lists.centre(vectors)
            saved[name] = scanning.exhaustive(vectors, rows, k, sign, centre).distances
        save_arrays(self.plan.path(("truth", 0)), **saved)

    def piece(self, number: int) -> None:
        """A piece's rows in the trained index; an index without inverted lists takes all in one piece, in `merge`."""
        index = self._trained()
        if _mergeable(index):
            self._add(index, *self.plan.pieces[number])
        self._publish(("piece", number), index)

    def _add(self, index: Any, start: int, stop: int) -> None:
        for first, x, valid in scanning.blocks(self.vectors, start, stop):
            rows = np.flatnonzero(valid)
            index.add_with_ids(np.ascontiguousarray(x[rows]), rows + first)

    def merge(self, _: int) -> None:
        index, paths = self._trained(), [self.plan.path(("piece", p)) for p in range(len(self.plan.pieces))]
        if _mergeable(index):
            self.wait(*(("piece", p) for p in range(len(paths))))
            data = storage.join(self.plan.scratch, "merge.ivfdata")
            with storage.temporary(data) as draft:
                merge_ondisk(index, paths, draft)
                lists: Any = faiss.downcast_InvertedLists(_ivf(index).invlists)
                publish_sealed(data, draft)
                lists.filename = data.rpartition("/")[2]  # without the folder: the index is the same wherever it is
        else:
            self._add(index, 0, self.plan.rows)
        self._publish(("merge", 0), index)

    def _search(self) -> Any:
        if self._index is None:
            self.wait(("merge", 0))
            flags = faiss.IO_FLAG_READ_ONLY | faiss.IO_FLAG_ONDISK_SAME_DIR
            if not _mergeable(self._trained()):
                flags = faiss.IO_FLAG_MMAP_IFC
            self._index = faiss.read_index(self.plan.path(("merge", 0)), flags)
            ivf = _ivf(self._index)
            if ivf is not None:
                ivf.nprobe = min(self.plan.probes, ivf.nlist)
            elif isinstance(inner := faiss.downcast_index(self._index.index), faiss.IndexHNSW):
                inner.hnsw.efSearch = max(self.plan.probes, self.plan.candidates + 1)
        return self._index

    def _furthest(self) -> shell.Shell:
        if self._shell is None:
            items = [("radii", p) for p in range(len(self.plan.pieces))]
            self.wait(("train", 0), *items)
            radii = np.concatenate([load_arrays(self.plan.path(item))["radii"] for item in items])
            basis = load_arrays(self.plan.path(("train", 0)))["basis"]
            arguments = self.vectors, radii, self.centre, basis, self.plan.scratch, self.plan.far
            self._shell = shell.Shell(*arguments)
        return self._shell

    def lists(self, block: int) -> dict[str, Any]:
        """Both lists of a query block."""
        start, stop = self.plan.blocks[block]
        began = time.perf_counter()
        x, valid = self.vectors.rows(start, stop)
        found = self._candidates(x)
        found[~valid] = -1
        searched = time.perf_counter()
        near = self._rerank(start, stop, found, valid)
        ranked = time.perf_counter()
        rows = np.flatnonzero(valid)
        queries = scanning.Queries(x[rows], rows + start, self.centre, self.vectors.private)
        shell = self._furthest()
        far, scanned, counts = shell.furthest(queries)
        saved: dict[str, Array] = {"valid": valid, "scanned": np.zeros(len(x), np.int64)}
        saved["certified"] = np.zeros(len(x), bool)
        saved["scanned"][rows], saved["certified"][rows] = scanned, shell.certified(queries, far, scanned)
        for name, kept, places in (("near", near, np.arange(len(x))), ("far", far, rows)):
            saved[name] = np.full((len(x), kept.k), -1, np.int32)
            saved[f"{name}_distance"] = np.full((len(x), kept.k), np.nan)
            saved[name][places], saved[f"{name}_distance"][places] = kept.columns, kept.distances
        save_arrays(self.plan.path(("lists", block)), **saved)
        return {"search_seconds": searched - began, "rerank_seconds": ranked - searched, **counts}

    def _candidates(self, x: Array) -> Array:
        """float32 n d from a multiple of GROUP on -> positions int64 n C + 1, -1: none."""
        index = self._search()
        found = [index.search(x[i : i + GROUP], self.plan.candidates + 1)[1] for i in range(0, len(x), GROUP)]
        return np.concatenate(found)

    def _rerank(self, start: int, stop: int, found: Array, valid: Array) -> best.Best:
        """The candidates by their exact distances; each row group that holds some is read once."""
        own = np.arange(start, stop)
        found[found == own[:, None]] = -1
        top, places = best.Best(len(found), self.plan.near, 1), found.ravel()
        order = np.argsort(places, kind="stable")[int((places < 0).sum()) :]
        queries, there = self.decisive.rows(start, stop)
        private = self.decisive.private
        if (lacking := np.flatnonzero(valid & ~there)).size:
            raise ValueError(
                f"--rerank {self.plan.rerank} has no descriptor of row {lacking[0] + start}, --descriptors has one: "
                "describe the same images with both, or leave --rerank out"
            )
        positions = places[order]
        pairs_rows = order // found.shape[1]
        distances = np.empty(len(order))
        for run, first, last in self.decisive.runs(positions):
            y, good = self.decisive.rows(first, last)
            columns = positions[run] - first
            own_to = private[start + pairs_rows[run]] + private[positions[run]]
            distances[run] = bounds.exact(queries, y, pairs_rows[run], columns) + own_to
            distances[run][~good[columns]] = np.inf
        known = np.isfinite(distances)
        top.take(pairs_rows[known], positions[known], distances[known])
        missing = np.flatnonzero((top.columns[:, -1] < 0) & valid)
        if len(missing):  # an index may find fewer than were asked for: these rows look at all
            centre = lists.centre(self.decisive)
            all_ = scanning.exhaustive(self.decisive, own[missing], self.plan.near, 1, centre)
            top.distances[missing], top.columns[missing] = all_.distances, all_.columns
        return top
