"""Coordinates of a sketch (pipeline.sketches) -> a few bytes -> coordinates.

x - mean = g u with |u| = 1: the gain g is kept on a logarithmic scale, as neighbours of a row far from the mean are far
from each other too, and may be told apart as coarsely. The coordinates of u are rounded as asinh(u / s), s their
deviation: as finely as their middle needs and without cutting off outliers. Each coordinate has bits by its variance,
one after the other to the one whose error is the largest (Gersho, Gray, "Vector Quantization and Signal Compression",
1992, section 8.3: each bit takes 3/4 of a coordinate's squared error). The norm of what is left out has two bytes.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray
MOST_BITS = 12
"""Of one coordinate."""
OCTAVES = 16
"""Gain and rest are kept from 2^-16 to 2^16 times the sample's mean gain, in steps of 1/2048 octave."""
COSINE = 0.5
"""c: on held-out real pictures 0.3, 0.5 and 0.7 hardly differ; 0 and 1 are worse (README)."""


@dataclass(frozen=True)
class Codec:
    """Coordinates -> bytes -> coordinates."""

    bits: tuple[int, ...]
    """Of each coordinate of u."""
    scales: tuple[float, ...]
    """s: deviation of each coordinate of u."""
    limits: tuple[float, ...]
    """Largest asinh(u / s) that is kept."""
    gain: float
    """The sample's mean |x - mean|."""
    cosine: float
    """c; a projection has 1 and no rest."""

    @property
    def bytes(self) -> int:
        return 4 + -(-sum(self.bits) // 8)

    @property
    def dimension(self) -> int:
        """Of a decoded vector, sqrt(c) r included."""
        return len(self.bits) + 1

    @cached_property
    def _places(self) -> Array:
        """Where the code's bits stand among 16 a coordinate."""
        return np.concatenate([16 * i + np.arange(16 - b, 16) for i, b in enumerate(self.bits)]).astype(np.int64)

    @cached_property
    def _levels(self) -> tuple[Array, Array]:
        """(values of u of all coordinates one after the other: float32, first place of each: int64)."""
        tables = []
        for b, scale, limit in zip(self.bits, self.scales, self.limits, strict=True):
            middles = (np.arange(2**b) + 0.5) * (2 * limit / 2**b) - limit
            tables.append(scale * np.sinh(middles))
        starts = np.cumsum([0, *(2**b for b in self.bits)])[:-1]
        return np.concatenate(tables).astype(np.float32), starts

    def _log(self, values: Array) -> Array:
        """float64 n -> uint16 codes; 0: nothing."""
        with np.errstate(divide="ignore"):
            steps = (np.log2(values / self.gain) + OCTAVES) * 2048
        return np.where(values > 0, np.clip(np.rint(steps), 1, 65535), 0).astype("<u2")

    def _exp(self, codes: Array) -> Array:
        values = self.gain * np.exp2(codes.astype(np.float64) / 2048 - OCTAVES)
        return np.where(codes > 0, values, 0.0)

    def encode(self, p: Array, norms: Array) -> Array:
        """Coordinates float32 n K and norms |x - mean| float64 n -> codes uint8 n bytes."""
        n = len(p)
        gain = self._log(norms)
        with np.errstate(divide="ignore", invalid="ignore"):
            u = np.nan_to_num(p / self._exp(gain)[:, None]).astype(np.float32)
        limits, levels = np.array(self.limits), 2.0 ** np.array(self.bits)
        place = (np.arcsinh(u / np.array(self.scales)) + limits) * (levels / (2 * limits))
        codes = np.clip(np.floor(place), 0, levels - 1).astype(">u2")
        packed = np.packbits(np.unpackbits(codes.view(np.uint8), axis=1)[:, self._places], axis=1)
        rest = np.zeros(n, "<u2")
        if self.cosine < 1:
            v = self._vectors(codes.astype(np.int64), gain).astype(np.float64)
            p = p.astype(np.float64)
            left = norms**2 - np.einsum("nk,nk->n", p, p)  # outside of the directions; rounding may make it negative
            rest = self._log(np.sqrt(np.maximum(left, 0) + ((p - v) ** 2).sum(1)))
        return np.hstack([gain[:, None].view(np.uint8), rest[:, None].view(np.uint8), packed])

    def _vectors(self, codes: Array, gain: Array) -> Array:
        values, starts = self._levels
        v: Array = values[codes + starts]
        v *= self._exp(gain)[:, None].astype(np.float32)
        return v

    def rests(self, codes: Array) -> Array:
        """r, float64 n."""
        return self._exp(np.ascontiguousarray(codes[:, 2:4]).view("<u2")[:, 0])

    def decode(self, codes: Array) -> Array:
        """uint8 n bytes -> float32 n dimension."""
        n, k = len(codes), len(self.bits)
        out = np.empty((n, k + 1), np.float32)
        for start in range(0, n, 1024):  # 16 bits a coordinate are spread out for so many rows
            some = codes[start : start + 1024]
            spread = np.zeros((len(some), 16 * k), np.uint8)
            spread[:, self._places] = np.unpackbits(some[:, 4:], axis=1)[:, : len(self._places)]
            places = np.packbits(spread, axis=1).view(">u2").astype(np.int64)
            gain = np.ascontiguousarray(some[:, :2]).view("<u2")[:, 0]
            out[start : start + len(some), :k] = self._vectors(places, gain)
        out[:, k] = self.cosine**0.5 * self.rests(codes)
        return out

    def private(self, codes: Array) -> Array:
        """(1 - c) r^2, float64 n: the square of the coordinate that each row has to itself."""
        private: Array = (1 - self.cosine) * self.rests(codes) ** 2
        return private


def codec_for(u: Array, gain: float, bits: int, cosine: float) -> Codec:
    """A codec for coordinates of unit vectors with the statistics of u (n K), and so many bits together."""
    deviations = np.maximum(u.std(0), 1e-9)
    limits = np.maximum(np.arcsinh(1.3 * np.abs(u).max(0) / deviations), 1.0)
    allotted = allot(deviations**2, bits)
    return Codec(tuple(allotted.tolist()), tuple(deviations.tolist()), tuple(limits.tolist()), gain, cosine)


def allot(variances: Array, bits: int) -> Array:
    """Bits of each coordinate, int64 K: each to the one with the largest expected squared error."""
    found = np.zeros(len(variances), np.int64)
    errors = [(-float(v), i) for i, v in enumerate(variances)]
    heapq.heapify(errors)
    for _ in range(min(bits, MOST_BITS * len(variances))):
        error, i = heapq.heappop(errors)
        found[i] += 1
        if found[i] < MOST_BITS:
            # Lloyd and Max's one bit leaves 0.363 of a normal variable's variance, each further one about a quarter.
            heapq.heappush(errors, (error * (0.363 if found[i] == 1 else 0.25), i))
    return found


def codec_of(notes: dict[str, Any]) -> Codec:
    """From a card's notes."""
    found = notes["codec"]
    bits, scales, limits = (tuple(found[name]) for name in ("bits", "scales", "limits"))
    return Codec(bits, scales, limits, found["gain"], found["cosine"])
