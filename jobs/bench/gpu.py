"""Training, descriptors and the exact search on a GPU, each beside what the card itself reaches.

    python -m jobs.bench gpu --steps 20 > gpu.json

Peak rates of matrix products; StEP's stages and conditional IMLE's step and search at paper size in several number
formats, compiled or not; the loop and its feed; style descriptors; the exact search, whose lists are compared with
the CPU's; two ranks on one card. Without a card it says so and ends with 2.

On a machine that has PyTorch but not this project's other libraries: `python -m jobs.bench.gpu` with the same options.
It needs PyTorch, NumPy, jaxtyping, PyArrow, Pillow and fsspec; the loop also pydantic and the demo's photographs
(scikit-image, scikit-learn, matplotlib), and is left out without them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch

from jobs.bench.card import ranks, rates, search, steps, styles, works

PARTS = ("training", "loop", "descriptors", "search", "ranks")


@dataclass(frozen=True)
class Config:
    """Sizes of the measurement."""

    device: str = "cuda"
    """As torch names it. `cpu:0` tries the command out: its figures mean nothing."""
    only: tuple[str, ...] = PARTS
    """Parts that are measured, after the card's rates."""
    hows: tuple[str, ...] = tuple(steps.HOWS)
    """Number formats of the training steps."""
    side: int = 8192
    """Of the matrices whose product gives the card's rates."""
    size: int = 256
    """Pictures' side, pixels."""
    batches: tuple[int, ...] = (8, 1)
    """Batch sizes of the training steps."""
    steps: int = 20
    """Steps that are timed, after those that warm up."""
    crops: int = 40
    """Demo crops per photograph, for the loop."""
    describe: int = 64
    """Pictures that are described at once."""
    n: int = 50_000
    """Rows of the search."""
    d: int = 16_384
    """Their length."""
    tiny: int = 0
    """1: presets `tiny`, to try the command out."""
    folder: str | None = None
    """Where the search's rows are put, 4 n d bytes; none: the system's temporary folder."""

    def __post_init__(self) -> None:
        for option, there in (("only", PARTS), ("hows", tuple(steps.HOWS))):
            if unknown := [one for one in getattr(self, option) if one not in there]:
                raise ValueError(f"--{option} {unknown[0]}: choose among {'; '.join(there)}")


def run(config: Config) -> dict[str, Any]:
    """Figures by part. A part's figures are printed when it is done.

    Raises:
        SystemExit: (2) no such device.
    """
    device = torch.device(config.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(f"error: --device {config.device}: PyTorch {torch.__version__} finds no GPU", file=sys.stderr)
        raise SystemExit(2)
    reached = rates.measured(device, config.side)
    found: dict[str, Any] = {**rates.about(device), "rates": reached}
    _tell({"rates": reached})
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "training": lambda: _training(config, device, reached["bf16"]),
        "loop": lambda: _loop(config, device),
        "descriptors": lambda: styles.measured(device, config.size, config.describe, reached["bf16"]),
        "search": lambda: search.measured(device, config.n, config.d, reached, config.folder),
        "ranks": lambda: ranks.measured(device),
    }
    for name in config.only:
        try:
            found[name] = parts[name]()
        except Exception as error:  # the other parts go on
            found[name] = {"failed": f"{type(error).__name__}: {error}"}
        _tell({name: found[name]})
    return found


def _training(config: Config, device: torch.device, peak: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for batch in config.batches:
        for name, make in works.each(config.size, batch, device, bool(config.tiny)):
            searches = name == "imle search"  # of so many pairs, whatever a step's batch
            if searches and batch != config.batches[0]:
                continue
            for how in config.hows:
                count = min(config.steps, works.SEARCHES) if searches else config.steps
                one = steps.measured(make, device, count, peak, steps.HOWS[how])
                found.setdefault(f"{name}, batch {batch}", {})[how] = one
                _tell({f"{name}, batch {batch}, {how}": one})
    return found


def _loop(config: Config, device: torch.device) -> dict[str, Any]:
    try:
        from jobs.bench.card import loop
    except ImportError as error:
        return {"left_out": str(error)}
    return loop.measured(device, config.size, config.batches[0], 5 * config.steps, config.crops, tiny=bool(config.tiny))


def _tell(figures: dict[str, Any]) -> None:
    print(json.dumps(figures), flush=True)


def _alone() -> Config:
    """The command line, without tyro."""
    parser = argparse.ArgumentParser(prog="python -m jobs.bench.gpu")
    for field in fields(Config):
        kind = type(field.default[0]) if isinstance(field.default, tuple) else type(field.default or "")
        several = {"nargs": "+"} if isinstance(field.default, tuple) else {}
        parser.add_argument(f"--{field.name}", type=kind, default=field.default, **several)  # type: ignore[arg-type]
    given: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in vars(parser.parse_args()).items()}
    try:
        return Config(**given)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    print(json.dumps({"bench": "gpu", **run(_alone())}))
