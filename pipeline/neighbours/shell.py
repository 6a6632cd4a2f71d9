"""The k furthest rows of every query, exact and certified, from a shell: the rows furthest from a centre.

With r the distance from the centre, d(x, y) <= r_x + r_y. Rows are scanned in falling r until (r_x + r_y)^2 is below
the query's k-th largest squared distance so far: no later row can be in its list, which is its certificate (or all rows
were scanned: the worst case, all on a sphere).

Most scanned rows are struck out by a bound in few dimensions: with p the coordinates along m orthonormal directions
(the first principal ones, but any are right) and s the norm of the rest,

    d(x, y)^2 <= |p_x - p_y|^2 + (s_x + s_y)^2 = r_x^2 + r_y^2 - 2 [p_x, -s_x] . [p_y, s_y],

a product of m + 1 columns. The float32 roundings of columns and sums are at most (m + 8) u of r_x^2 + r_y^2 (see
pipeline.search; u = 2^-24); SLACK times that is added. Queries with few rows left have these distances computed as they
are, in float64; those with many (COMMON), and all at the first block, go through pipeline.scanning.

Exact copies of a row beyond the k + 1 of lowest position in a chunk of the shell cannot be in a list and are dropped:
blank images would be everybody's furthest a thousand times.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch

from pipeline.artifacts import storage
from pipeline.neighbours.units import publish_sealed
from pipeline.search import bounds, scanning
from pipeline.search.best import Best
from pipeline.search.bounds import Array
from pipeline.search.scanning import Queries, Rows
from pipeline.style.vectors import Vectors

DIRECTIONS = 16
"""m: directions of the cheap bound."""
ROUNDS, ROWS = 4, 4096
"""Of the iteration that finds them; rows of the sample that are taken at once."""
SLACK = 4
CHUNK = 32_768
"""Rows of a file of the shell."""
COMMON = 32
"""Rows of a block that pass a query's cheap bound: with more, float32 products of full length come first."""
MARGIN = 1e-9
"""Relative, of float64 radii and distances (their roundings are about 1e-13): a query is closed with certainty."""


def meets(rows: int) -> int:
    """Rows of the shell that a query's bounds are taken of, where there are outliers: one block of products."""
    return min(rows, scanning.ROWS)


def directions(sample: Array, centre: Array) -> Array:
    """float64 d m, orthonormal: about the first principal directions of some rows (float32 n d) about a centre, by
    subspace iteration (Halko, Martinsson, Tropp, SIAM Review 53, 2011, algorithm 4.4): no matrix is d x d."""

    def chunks() -> Iterator[Array]:
        for start in range(0, len(sample), ROWS):
            yield sample[start : start + ROWS].astype(np.float64) - centre

    d = sample.shape[1]
    basis: Array = np.random.default_rng(0).standard_normal((d, min(d, 2 * DIRECTIONS)))
    for _ in range(ROUNDS):
        basis = np.linalg.qr(basis)[0]
        basis = sum((x.T @ (x @ basis) for x in chunks()), np.zeros(basis.shape))
    basis = np.linalg.qr(basis)[0]
    inner = sum(((x @ basis).T @ (x @ basis) for x in chunks()), np.zeros((basis.shape[1], basis.shape[1])))
    _, vectors = np.linalg.eigh(inner)
    return np.ascontiguousarray((basis @ vectors[:, ::-1])[:, :DIRECTIONS])


class Shell:
    """The rows with a vector in falling distance from the centre, as files that the first who needs one writes:
    4 d bytes a row, mapped into memory, so that actors of one host share them."""

    def __init__(self, vectors: Vectors, radii: Array, centre: Array, basis: Array, folder: str, k: int) -> None:
        """radii: float64 N, squared distances to `centre` (float32 d), NaN: no vector. basis: float64 d m."""
        self.vectors, self.centre, self.basis, self.folder, self.k = vectors, centre, basis, folder, k
        order = np.argsort(-radii, kind="stable")  # NaN last
        self.order = order[: int(np.isfinite(radii).sum())]
        self.radii = np.sqrt(radii[self.order])
        self._held: tuple[int, Array, Array] | None = None

    def chunk(self, number: int) -> tuple[Array, Array]:
        """(float32 n d, their ranks int64 n) of chunk `number`, without superfluous copies."""
        if self._held is None or self._held[0] != number:
            paths = [storage.join(self.folder, f"shell-{number:05d}-{what}.npy") for what in ("vectors", "ranks")]
            if not all(map(storage.exists, paths)):
                self._write(number, *paths)
            self._held = number, np.load(paths[0], mmap_mode="r"), np.load(paths[1])
        return self._held[1:]

    def _write(self, number: int, *paths: str) -> None:
        ranks = np.arange(number * CHUNK, min((number + 1) * CHUNK, len(self.order)))
        positions = self.order[ranks]
        ascending = np.argsort(positions)
        x = np.empty((len(ranks), self.vectors.dimension), np.float32)
        x[ascending] = self.vectors.take(positions[ascending])[0]
        kept = _few_copies(x, self.radii[ranks], positions, self.k + 1)
        for path, array in zip(paths, (x[kept], ranks[kept]), strict=True):
            with storage.temporary(path) as draft:
                with open(draft, "wb") as file:
                    np.save(file, array)
                publish_sealed(path, draft)

    def columns(self, x: Array, squares: Array, sign: int) -> Array:
        """float32 n m + 1: [p, sign s]."""
        p = (x.astype(np.float64) - self.centre) @ self.basis
        s = np.sqrt(np.maximum(squares - (p * p).sum(axis=1), 0))
        return np.hstack([p, sign * s[:, None]]).astype(np.float32)

    def furthest(self, queries: Queries) -> tuple[Best, Array, dict[str, float]]:
        """(lists, rows scanned of each query int64 n, counts and seconds). Every list is certified."""
        best = Best(len(queries), self.k, -1)
        own = np.sqrt(queries.squares)
        left = -2 * self.columns(queries.x, queries.squares, -1)
        scanned = np.full(len(queries), len(self.order))
        open_ = np.arange(len(queries))
        counts = {"scanned": 0.0, "recomputed": 0.0, "far_seconds": -time.perf_counter()}
        for number in range(-(-len(self.order) // CHUNK)):
            x, ranks = self.chunk(number)
            for start in range(0, len(x), scanning.ROWS):
                rank = int(ranks[start])
                closed = (own[open_] + self.radii[rank]) ** 2 * (1 + MARGIN) < -best.limits[open_]
                scanned[open_[closed]] = rank
                open_ = open_[~closed]
                if not len(open_):
                    break
                some = ranks[start : start + scanning.ROWS]
                rows = Rows(x[start : start + scanning.ROWS], self.order[some], self.centre, self.vectors.private)
                counts["scanned"] += len(open_) * len(rows)
                counts["recomputed"] += self._scan(best, queries, left, open_, rows)
            if not len(open_):
                break
        counts["far_seconds"] += time.perf_counter()
        return best, scanned, counts

    def certified(self, queries: Queries, best: Best, scanned: Array) -> Array:
        """bool n: whether these lists are full and no row of a later rank than `scanned` can be in them."""
        later = np.append(self.radii, -np.inf)[scanned]
        reach = np.where(np.isinf(later), -np.inf, (np.sqrt(queries.squares) + later) ** 2 * (1 + MARGIN))
        proved: Array = (best.columns[:, -1] >= 0) & (reach < best.distances[:, -1])
        return proved

    def _scan(self, best: Best, queries: Queries, left: Array, some: Array, rows: Rows) -> int:
        limits = -best.limits[some]
        fresh = np.isinf(limits)
        taken = scanning.scan(best, queries, some[fresh], rows) if fresh.any() else 0
        some, limits = some[~fresh], limits[~fresh]
        eta = SLACK * (left.shape[1] + 8) * bounds.UNIT
        least = 4 * left.shape[1] * float(np.finfo(np.float32).tiny)
        right = torch.from_numpy(self.columns(rows.y, rows.squares, 1)).T
        squares = torch.from_numpy(((1 + eta) * rows.squares).astype(np.float32))
        for start in range(0, len(some), scanning.QUERIES):
            part = some[start : start + scanning.QUERIES]
            # bound = r_x^2 + r_y^2 + scores
            scores = torch.mm(torch.from_numpy(left[part]), right).add_(squares)
            needed = limits[start : start + len(part)] - (1 + eta) * queries.squares[part] - least
            enough = torch.from_numpy(np.nextafter(needed.astype(np.float32), np.float32(-np.inf)))
            likely = torch.nonzero(scores.amax(dim=1) >= enough).squeeze(1)
            passed = scores[likely] >= enough[likely, None]
            common = passed.sum(dim=1) > COMMON
            i, j = (v.numpy() for v in torch.nonzero(passed & ~common[:, None], as_tuple=True))
            found = part[likely.numpy()[i]]
            others = rows.columns[j] != queries.own[found]
            found, j = found[others], j[others]
            best.take(found, rows.columns[j], scanning.distances(queries, rows, found, j))
            many = part[likely[common].numpy()]
            taken += len(found) + (scanning.scan(best, queries, many, rows) if len(many) else 0)
        return taken


def _few_copies(x: Array, radii: Array, positions: Array, most: int) -> Array:
    """Places, ascending, of all rows but the copies of one beyond the `most` of lowest position. Rows come in falling
    radius, then rising position; copies have equal radii."""
    kept = np.ones(len(x), bool)
    edges = np.flatnonzero(np.diff(radii, prepend=np.inf, append=-np.inf))
    for start, stop in pairwise(edges.tolist()):
        if stop - start > most:
            seen: dict[bytes, int] = {}
            for place in range(start, stop):
                key = x[place].tobytes()
                seen[key] = seen.get(key, 0) + 1
                kept[place] = seen[key] <= most
    return np.flatnonzero(kept)
