"""What neighbour searches of N images on W workers will take, by the model that jobs.neighbours --dry-run prints.

The rates are measured here, on one thread (and taken to be each worker's), or given. Shared storage is assumed to keep
up; the column of bytes read gives the load.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from typing import Any, Literal

from jobs.bench.harness.vectors import sketches
from pipeline.artifacts import artifact
from pipeline.neighbours import cost
from pipeline.neighbours.options import METHODS
from pipeline.style.vectors import Vectors


@dataclass(frozen=True)
class Config:
    """Of which searches."""

    images: tuple[int, ...] = (10**5, 10**6, 10**7, 10**8, 10**9)
    """N."""
    workers: tuple[int, ...] = (1, 10, 100, 1000)
    """Of one thread each, a core for each."""
    method: Literal["exact", "certified", "index"] = "index"
    """The first word of jobs.neighbours."""
    bytes: int = 86
    """Of a sketch; 0: float32 vectors of length d."""
    d: int = 43_232
    """Length of a vector, where there are no sketches."""


class Many(Vectors):
    """A small artifact in the clothes of a large one."""

    def __init__(self, folder: str, rows: int) -> None:
        super().__init__(folder)
        self.count = rows
        self.part_rows = [100_000] * -(-rows // 100_000)

    def __len__(self) -> int:
        return self.count


def run(config: Config) -> dict[str, Any]:
    """Per N and W: hours, bytes read, peak bytes of a worker; printed as a table."""
    found: dict[str, Any] = {"method": config.method, "bytes": config.bytes or 4 * config.d}
    with tempfile.TemporaryDirectory() as folder:
        source = f"{folder}/sketches"
        sketches(source, 20_000 if config.bytes else 200, config.bytes, config.d, 0)
        described = artifact.load_card(source)
        rates: cost.Rates | None = None
        print("| N | operations | read | workers: hours | memory of one of 100 workers |\n|---|---|---|---|---|")
        for rows in config.images:
            vectors, cells = Many(source, rows), []
            for workers in config.workers:
                asked = METHODS[config.method](workers=workers)
                planned = asked.plan(vectors, folder, {**described, "rows": rows})
                rates = rates or cost.measure(planned, vectors)
                taken = cost.estimate(planned, vectors, workers, 1, rates=rates, cores=workers)
                cells.append(f"{workers}: {taken.seconds / 3600:.2g}")
                found[f"{rows:.0e}/{workers}/hours"] = taken.seconds / 3600
                each = cost.worker_bytes(planned, vectors)
            found |= {f"{rows:.0e}/operations": taken.operations, f"{rows:.0e}/read": taken.read}
            print(
                f"| {rows:.0e} | {taken.operations:.1e} | {cost.text(taken.read)} | {'; '.join(cells)} | "
                f"{cost.text(each)} |"
            )
    assert rates is not None
    return {**found, **{f"rate_{name}": value for name, value in asdict(rates).items()}}
