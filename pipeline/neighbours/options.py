"""What can be asked of a search, by method; each makes the plan of its search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import ByteSize

from pipeline.artifacts import storage
from pipeline.neighbours import certified, cost, exact, index
from pipeline.search.bounds import Kind  # tyro reads it

if TYPE_CHECKING:
    from pipeline.artifacts import artifact
    from pipeline.neighbours.units import Plan
    from pipeline.style.vectors import Vectors


@dataclass(frozen=True, kw_only=True)
class Options:
    """What all methods have in common. Of these only `near`, `far` and `far_cap` change the lists."""

    near: int = 5
    """k_c: closest images kept; the positives (StEP: 5)."""
    far: int = 13
    """k_f: furthest images kept; the negatives (StEP: 13, more than k_c to blunt outliers)."""
    far_cap: float = 0.0
    """Share of the furthest lists that one image may be in; 0 or 1: any, as StEP's (a few outliers are in most)."""
    block: int = 0
    """Rows of a block; 0: chosen for you."""
    memory: ByteSize | None = None
    """Most that all processes of the search may hold together (8GiB, 500MB): blocks are made to fit; none: no limit."""
    workers: int = 2
    """Ray actors; 0: in this process."""

    method: ClassVar[str]
    block_step: ClassVar[int] = 1
    """Blocks are multiples of it."""

    def __post_init__(self) -> None:
        self._least(1, "near", "far")
        self._least(0, "block")
        if self.workers < 0:
            raise ValueError(f"--workers {self.workers}: give 0 (in this process) or more")
        if self.memory is not None and self.memory < 1:
            raise ValueError(f"--memory {int(self.memory)}: give a size such as 4GiB or 500MB")
        if not 0 <= self.far_cap <= 1:
            raise ValueError(f"--far-cap {self.far_cap}: give a share of the lists, 0 to 1")

    def _least(self, least: int, *options: str) -> None:
        for option in options:
            if (value := getattr(self, option)) < least:
                chosen = "0 (chosen for you) or more" if least == 0 else f"at least {least}"
                raise ValueError(f"--{option.replace('_', '-')} {value}: give {chosen}")

    @property
    def at_once(self) -> int:
        """Processes that work at the same time."""
        return max(1, self.workers)

    @property
    def capped(self) -> bool:
        return 0 < self.far_cap < 1

    @property
    def actor(self) -> tuple[int, float]:
        """(CPU threads, GPUs) of each actor."""
        return 1, 0.0

    def plan(self, vectors: Vectors, folder: str, described: artifact.Card) -> Plan:
        """What the search's workers need to know, whatever `memory` is; its scratch folder, within `folder`, is named
        after what it depends on."""
        raise NotImplementedError

    def _local(self, folder: str) -> None:
        if storage.is_remote(folder):
            raise ValueError(
                f"--output {folder}: this method ({self.method}) maps its files into memory; give a folder of a file "
                "system that all workers share, and copy it"
            )


@dataclass(frozen=True, kw_only=True)
class Exact(Options):
    """All pairs are compared. Does not depend on workers, blocks or schedule."""

    method: ClassVar[str] = "exact"

    spans: int = 0
    """Tiles per query block, each over a share of the database; 0: as many as keep the workers busy."""
    margin: int = 16
    """Candidates kept beyond k; a row that proves too close to call is widened anyway."""
    threads: int = 1
    """CPU threads an actor; does not change a byte."""
    gpus: float = 0
    """GPUs an actor; blocks stay there, products and distances are computed there. Does not change a byte."""
    products: Kind = "tf32"
    """Numbers that a GPU takes products of: shorter ones are faster and leave more rows to compute exactly. Does not
    change a byte."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._least(1, "margin", "threads")
        self._least(0, "spans")
        if self.gpus < 0:
            raise ValueError(f"--gpus {self.gpus}: give 0 or more")

    @property
    def actor(self) -> tuple[int, float]:
        return self.threads, self.gpus

    def plan(self, vectors: Vectors, folder: str, described: artifact.Card) -> Plan:
        asked = vectors, folder, self.near, self.far, self.block, self.at_once, self.spans, self.margin
        return exact.plan(*asked, "cuda", self.products, self.gpus) if self.gpus else exact.plan(*asked)


@dataclass(frozen=True, kw_only=True)
class Certified(Options):
    """Exact too, but only rows that a sketch's bounds leave open are compared."""

    method: ClassVar[str] = "certified"

    directions: int = 256
    """Coordinates of the sketch."""
    threads: int = 1
    """CPU threads an actor; does not change a byte."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._least(1, "directions", "threads")

    @property
    def actor(self) -> tuple[int, float]:
        return self.threads, 0.0

    def plan(self, vectors: Vectors, folder: str, described: artifact.Card) -> Plan:
        """Raises ValueError where `folder` is on an object store."""
        self._local(folder)
        return certified.plan(vectors, folder, self.near, self.far, self.block, self.at_once, self.directions)


@dataclass(frozen=True, kw_only=True)
class Index(Options):
    """For many short descriptors: the closest from a FAISS index, re-ranked exactly, with their recall measured; the
    furthest are exact."""

    method: ClassVar[str] = "index"
    block_step: ClassVar[int] = index.GROUP

    index: str = "auto"
    """FAISS's index_factory string (IVF4096,Flat, IVF4096,SQ8, OPQ32_160,IVF4096,PQ32x8, HNSW32); auto: by the number
    of images."""
    probes: int = 0
    """Inverted lists that a query looks into (HNSW: the search's breadth); 0: chosen for you."""
    candidates: int = 50
    """Rows of each query that are compared exactly."""
    rerank: str = ""
    """Folder of larger descriptors of the same images, which decide among the candidates of the closest; none: the
    descriptors themselves."""
    recall_sample: int = 1000
    """Queries that recall is measured on, against exact search."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._least(1, "recall_sample")
        self._least(0, "probes")
        if self.candidates < self.near:
            raise ValueError(f"--candidates {self.candidates}: give at least --near {self.near}")
        if self.block % self.block_step:
            raise ValueError(f"--block {self.block}: give a multiple of {self.block_step}")

    def plan(self, vectors: Vectors, folder: str, described: artifact.Card) -> Plan:
        """Raises ValueError where FAISS cannot make the index, or `folder` is on an object store."""
        self._local(folder)
        rerank = storage.absolute(self.rerank, "--rerank") if self.rerank else ""
        usable = described["rows"] - described["notes"]["bad"]
        asked = vectors, folder, self.near, self.far, self.block, self.at_once, usable
        return index.plan(*asked, self.index, self.probes, self.candidates, rerank, self.recall_sample)


METHODS: dict[str, type[Options]] = {kind.method: kind for kind in (Exact, Certified, Index)}


def plan_within(options: Options, vectors: Vectors, folder: str, described: artifact.Card, capping: int = 0) -> Plan:
    """`options.plan` with blocks that keep `options.memory`. capping: bytes that `--far-cap` takes beside the search.

    Raises:
        ValueError: the smallest blocks do not, or the given ones; as `plan`.
    """
    found = options.plan(vectors, folder, described)
    if options.memory is None:
        return found
    step = options.block_step
    while (peak := cost.peak_bytes(found, vectors, options.at_once, capping)) > options.memory:
        smaller = max(step, found.block // 2 // step * step)
        if options.block or smaller == found.block:
            raise ValueError(
                f"--memory {cost.text(options.memory)}: {-(-peak >> 20)} MiB are needed with blocks of {found.block} "
                f"rows and --workers {options.workers}; give more, "
                f"{'smaller blocks' if options.block else 'fewer workers'}, or shorter descriptors (jobs.sketch)"
            )
        found = replace(options, block=smaller).plan(vectors, folder, described)
    return found
