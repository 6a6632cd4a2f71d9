"""What a training job is: `Run` (where and how, free to change on resume) and `Job` (what, on what, where to)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Run:
    """Where and how a recipe runs. All of it may change on resume."""

    workers: int = 1
    """Ray Train workers; the global batch is split evenly between them. 0: in this process, without Ray."""
    threads: int = 0
    """CPU threads of each worker; 0: this machine's cores / workers."""
    gpu: bool = False
    """One GPU for each worker."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast around the family's update. The weights stay float32."""
    accumulate: int = 1
    """Micro-batches that a worker's share of a batch is cut into: less memory, the same step to rounding. For the
    translation families. With batch norm (pix2pix's default) it is another step: each micro-batch has its own
    statistics."""
    checkpoint_every: int = 500
    """Steps between two checkpoints."""
    keep_last: int = 2
    """Checkpoints kept, besides the best and those at the stages' ends."""
    log_every: int = 10
    """Steps over which logged scalars are averaged."""
    evaluate_every: int = 500
    """Steps between two evaluations on held-out samples, with a sheet of pictures."""
    evaluate_images: int = 64
    """Held-out samples of an evaluation."""
    cache_bytes: int = 1 << 30
    """Decoded images kept in memory by each worker, bytes."""
    max_failures: int = 3
    """Times that lost workers are replaced before the job fails."""

    def __post_init__(self) -> None:
        least = {
            "accumulate": 1,
            "checkpoint_every": 1,
            "log_every": 1,
            "evaluate_every": 1,
            "evaluate_images": 1,
            "keep_last": 1,
        }
        for name in ("workers", "threads", "cache_bytes", "max_failures", *least):
            if getattr(self, name) < least.get(name, 0):
                raise ValueError(f"--run.{name.replace('_', '-')} {getattr(self, name)}: at least {least.get(name, 0)}")


@dataclass(frozen=True)
class Job:
    """One training job: what to train, on what, where to."""

    family: str
    recipe: Any
    data: str
    output: str
    split: str = "train"
    held_out: str = "val"
    artifacts: dict[str, str] = field(default_factory=dict)
    """Artifact -> its folder, for those that the family uses: neighbours, rarity, matches."""
    weights: str = "random"
    start: dict[str, str] = field(default_factory=dict)
    """Stage -> checkpoint of another run, whose weights take that stage's place."""
    run: Run = Run()
    tracking: str | None = None
    parent: str | None = None
    name: str = "train"
    stop_after: int = 0
    """For tests: end as if by SIGTERM after so many steps in all; 0: never."""
