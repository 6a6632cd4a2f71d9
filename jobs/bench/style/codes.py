"""Small codes that a style index could be made of, beside the project's: each is really quantised.

All are functions of rows that give the decoded rows: codes are compared by the distances of what they decode to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np
import torch

Array = np.ndarray
SUBDIMENSIONS = (1, 4)
"""Coordinates of one byte of a product quantiser that are tried; the better recall is reported, to its favour."""


def half(p: Array, k: int, gain: float) -> Array:
    """PCA in float16: the first k coordinates (of float32 n K), 2 bytes each; `gain` keeps them within its range."""
    return (p[:, :k] / gain).astype(np.float16).astype(np.float64) * gain


def byte(p: Array, k: int, sample: Array) -> Array:
    """PCA in int8: the first k coordinates, a byte each, in steps of 1/127 of the sample's largest of that coordinate
    (float32 m K); further out is cut off."""
    scale = np.maximum(np.abs(sample[:, :k]).max(0), np.finfo(np.float32).tiny) / 127.0
    codes = np.clip(np.rint(p[:, :k] / scale), -127, 127).astype(np.int8)
    decoded: Array = codes * scale.astype(np.float64)
    return decoded


def product(p: Array, size: int, each: int, sample: Array) -> Array:
    """PCA and product quantisation (Jegou, Douze, Schmid, PAMI 2011) by FAISS: `size` bytes for `size` x `each`
    coordinates, centroids from the sample's coordinates."""
    d = size * each
    quantiser: Any = faiss.ProductQuantizer(d, size, 8)
    # Eight iterations move the centroids little further than FAISS's 25, which would take most of the run.
    quantiser.cp.niter, quantiser.cp.min_points_per_centroid = 8, 1
    quantiser.train(np.ascontiguousarray(sample[:, :d], np.float32))
    codes = quantiser.compute_codes(np.ascontiguousarray(p[:, :d], np.float32))
    decoded: Array = quantiser.decode(codes).astype(np.float64)
    return decoded


class TensorSketch:
    """Count sketch of a Gram (Pham, Pagh, KDD 2013; Gao et al., "Compact Bilinear Pooling", CVPR 2016): entry (i, j)
    goes with the sign s1(i) s2(j) to the place (h1(i) + h2(j)) mod m. That is linear, so that it is made of the Gram's
    stored upper triangle. m is split evenly over the layers: their Grams' distances are of one order."""

    def __init__(self, channels: Sequence[int], m: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.m = m
        self.tables = []
        """(h1, h2, s1, s2) of each layer, int64 C."""
        rooms = np.diff(np.linspace(0, m, len(channels) + 1).astype(int)).tolist()
        self.rooms: list[int] = rooms
        places: list[list[Array]] = [[], []]
        signs: list[list[Array]] = [[], []]
        start = 0
        for c, room in zip(channels, rooms, strict=True):
            h1, h2 = generator.integers(room, size=(2, c))
            s1, s2 = 2 * generator.integers(2, size=(2, c)) - 1
            self.tables.append((h1, h2, s1, s2))
            upper = np.triu_indices(c)
            # The stored sqrt(2) G stands for two entries of G, the diagonal for one.
            share = np.where(upper[0] == upper[1], 0.5, 0.5**0.5)
            for side, (i, j) in enumerate((upper, upper[::-1])):
                places[side].append(start + (h1[i] + h2[j]) % room)
                signs[side].append(s1[i] * s2[j] * share)
            start += room
        self.places = [torch.from_numpy(np.concatenate(p)) for p in places]
        self.signs = [torch.from_numpy(np.concatenate(s)).float() for s in signs]

    def exact(self, x: Array) -> Array:
        """float32 n D, upper triangles as stored -> float32 n m."""
        out = torch.zeros(len(x), self.m)
        rows = torch.from_numpy(x)
        for places, signs in zip(self.places, self.signs, strict=True):
            out.index_add_(1, places, rows * signs)
        return out.numpy()

    def __call__(self, x: Array, gain: float) -> Array:
        """The same in float16, 2 m bytes a row."""
        return half(self.exact(x), self.m, gain)
