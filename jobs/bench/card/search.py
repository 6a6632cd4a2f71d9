"""The exact search on a device, against its own products and against the lists of the CPU."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs.bench.harness.turns import wait
from jobs.bench.harness.vectors import low_rank
from pipeline.neighbours import exact, lists
from pipeline.search import bounds
from pipeline.search.bounds import Kind
from pipeline.style.vectors import Vectors

NEAR, FAR = 5, 13


def measured(device: torch.device, n: int, d: int, rates: dict[Kind, float], folder: str | None) -> dict[str, Any]:
    """By kind of numbers: seconds of the whole search, of its products with the selection (blocks lie on the device
    already) and of the lists, and the products' share of the device's rate in the same numbers and in TF32.

    2 n^2 d operations are counted; symmetry is not used. `same_bytes`: whether the lists of the first block are those
    of a search on the CPU, distances too; `same_distances`: whether some pairs' distances are those of NumPy's sums.
    """
    found: dict[str, Any] = {"n": n, "d": d}
    with tempfile.TemporaryDirectory(dir=folder) as there:
        low_rank(f"{there}/vectors", n, d)
        vectors = Vectors(f"{there}/vectors")
        block = exact.plan(vectors, there, NEAR, FAR, device=str(device)).block
        # The CPU by its number: the same path, without FAISS. That it gives the bytes of the usual one is tested.
        plain = _lists(exact.plan(vectors, f"{there}/cpu", NEAR, FAR, block, spans=1, device="cpu:0"), [0])[0]
        for kind in bounds.KINDS:
            plan = exact.plan(vectors, f"{there}/{kind}", NEAR, FAR, block, spans=1, device=str(device), products=kind)
            first, found[kind] = _lists(plan, list(range(len(plan.blocks))), device)
            products = 2.0 * n * n * d / found[kind]["tiles_seconds"]
            found[kind] |= {f"share_of_{one}": products / rates[one] for one in {kind, "tf32"} if one in rates}
            found[kind]["same_bytes"] = first == plain
        found["same_distances"] = _same(vectors, device)
    faiss = _faiss(n, d) if device.type == "cuda" else None
    return {**found, **({"faiss": faiss} if faiss else {})}


def _same(vectors: Vectors, device: torch.device) -> bool:
    x = vectors.rows(0, min(1000, len(vectors)))[0]
    i, j = np.random.default_rng(0).integers(0, len(x), (2, 1000))
    there = torch.from_numpy(x).to(device)
    return bool((bounds.exact(there, there, i, j) == bounds.exact(x, x, i, j)).all())


def _lists(plan: exact.Plan, blocks: list[int], device: torch.device | None = None) -> tuple[bytes, dict[str, Any]]:
    """(the file of block 0's lists, figures)."""
    device = device or torch.device("cpu")
    began = time.perf_counter()
    worker = exact.Worker(plan, lists.centre(Vectors(plan.descriptors)))
    for at in plan.blocks if len(blocks) == len(plan.blocks) else []:
        worker.blocks.factors(at, at)  # read, sent, rounded: as many as stay
    wait(device)
    read = time.perf_counter()
    for block in blocks:
        worker.run(("tile", block))
    tiles = time.perf_counter()
    widened = [worker.run(("lists", block)) for block in blocks]
    ended = time.perf_counter()
    figures = {"read_seconds": read - began, "tiles_seconds": tiles - read, "lists_seconds": ended - tiles}
    figures |= {side: sum(one[side] for one in widened) for side in ("near_widened", "far_widened")}
    return Path(plan.path(("lists", 0))).read_bytes(), {"seconds": ended - began, **figures}


def _faiss(n: int, d: int) -> dict[str, Any] | None:
    """faiss-gpu's brute force, near alone, where it is installed; on numbers of no structure."""
    try:
        import faiss

        resources = faiss.StandardGpuResources()
    except (ImportError, AttributeError):
        return None
    x = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    faiss.knn_gpu(resources, x[:1024], x[:1024], NEAR + 1)
    began = time.perf_counter()
    faiss.knn_gpu(resources, x, x, NEAR + 1)
    return {"version": faiss.__version__, "near_seconds": time.perf_counter() - began}
