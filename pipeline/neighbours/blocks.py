"""The blocks of rows that the exact search multiplies: two in the host's memory, on a GPU as many as it holds.

A block is (first row, last + 1). It is had as it is stored (for exact distances), centred, and as factors: centred and
rounded to the numbers that products are taken of. Rows without a vector are zeros in the last two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.search import best, bounds
from pipeline.search.bounds import Array, Kind
from pipeline.style.vectors import Vectors

SHARE = 0.5
"""Of a GPU's free memory, for the blocks that stay there; the rest is for blocks in hand, products and selection."""

At = tuple[int, int]


class Blocks(ABC):
    """`hand`: the query block in hand, which is kept until there is another."""

    def __init__(self, vectors: Vectors, mean: Tensor) -> None:
        self.vectors, self.mean = vectors, mean
        self._valid: dict[int, Array] = {}  # by first row, as the next: 9 bytes an image
        self._squares: dict[int, Array] = {}

    @abstractmethod
    def stored(self, at: At, hand: At) -> Tensor: ...

    @abstractmethod
    def centred(self, at: At, hand: At) -> Tensor: ...

    @abstractmethod
    def factors(self, at: At, hand: At) -> Tensor:
        """Raises ValueError where a row is not finite or too long."""

    @abstractmethod
    def tops(self, rows: int, k: int, largest: bool) -> Any:
        """What keeps the best of scores that lie where the factors do: `best.Heaps` or `best.Tops`."""

    @abstractmethod
    def distances(self, x: Tensor, y: Tensor, rows: Array, columns: Array) -> Array:
        """float64: exact squared distances of x[rows[i]], y[columns[i]], rows of stored blocks."""

    def valid(self, at: At) -> Array:
        """bool n, of a block that was had."""
        return self._valid[at[0]]

    def squares(self, at: At) -> Array:
        """float64 n: squared norms of the centred rows of a block whose factors were had, with what each row has to
        itself."""
        return self._squares[at[0]]

    def _measure(self, at: At, x: Tensor) -> None:
        if at[0] not in self._squares:
            found = bounds.squared_norms(x) + self.vectors.private[slice(*at)]
            bounds.must_be_finite(found, self.vectors.folder)
            self._squares[at[0]] = found


class OfHost(Blocks):
    """In this process's memory."""

    def __init__(self, vectors: Vectors, mean: Tensor, block: int) -> None:
        import faiss  # keeps the best here; a GPU does without

        super().__init__(vectors, mean)
        faiss.omp_set_num_threads(torch.get_num_threads())
        size = (min(block, len(vectors)), vectors.dimension)
        self._rooms = np.empty(size, np.float32), np.empty(size, np.float32)
        self._hand: tuple[At, bool] | None = None

    def stored(self, at: At, hand: At) -> Tensor:
        return self._read(at, hand, centred=False)

    def centred(self, at: At, hand: At) -> Tensor:
        return self._read(at, hand, centred=True)

    def factors(self, at: At, hand: At) -> Tensor:
        x = self.centred(at, hand)
        self._measure(at, x)
        return x

    def _read(self, at: At, hand: At, centred: bool) -> Tensor:
        if at == hand and self._hand == (at, centred):
            return torch.from_numpy(self._rooms[0][: at[1] - at[0]])
        if at == hand:
            self._hand = None  # until it is read
        x, valid = self.vectors.rows(*at, out=self._rooms[0 if at == hand else 1])
        self._valid[at[0]] = valid
        if centred:
            torch.from_numpy(x).sub_(self.mean)
            x[~valid] = 0
        if at == hand:
            self._hand = at, centred
        return torch.from_numpy(x)

    def tops(self, rows: int, k: int, largest: bool) -> best.Heaps:
        return best.Heaps(rows, k, largest)

    def distances(self, x: Tensor, y: Tensor, rows: Array, columns: Array) -> Array:
        found, count = np.empty(len(rows)), torch.get_num_threads()

        def some(pairs: Array) -> None:
            found[pairs] = bounds.exact(x.numpy(), y.numpy(), rows[pairs], columns[pairs])

        with ThreadPoolExecutor(count) as threads:  # numpy lets other threads run meanwhile
            list(threads.map(some, np.array_split(np.arange(len(rows)), count)))
        return found


class OfDevice(Blocks):
    """On a GPU. Blocks beyond its memory are read again each time."""

    def __init__(self, vectors: Vectors, mean: Tensor, device: torch.device, kind: Kind, share: float) -> None:
        """share: of the device that is this process's.

        Raises:
            RuntimeError: its products are worse than the bounds allow for.
        """
        bounds.trusted(device, kind)
        bounds.trusted(device, "fp32")  # of rows that shorter numbers leave open
        super().__init__(vectors, mean.to(device))
        self.device, self.kind = device, kind
        self.free = int(_free(device) * SHARE * min(1.0, share))
        self._kept: dict[tuple[str, int], Tensor] = {}
        self._hand: tuple[str, At, Tensor] | None = None

    def stored(self, at: At, hand: At) -> Tensor:
        return self._had("stored", at, hand, lambda: self._read(at))

    def centred(self, at: At, hand: At) -> Tensor:
        x = self._had("stored", at, None, lambda: self._read(at))
        held = self._kept.get(("stored", at[0])), self._hand and self._hand[2]
        x = x - self.mean if any(x is one for one in held) else x.sub_(self.mean)
        x[torch.from_numpy(~self.valid(at)).to(self.device)] = 0
        return x

    def factors(self, at: At, hand: At) -> Tensor:
        return self._had("factors", at, hand, lambda: self._factors(at))

    def _had(self, what: str, at: At, hand: At | None, make: Callable[[], Tensor]) -> Tensor:
        if (what, at[0]) in self._kept:
            return self._kept[what, at[0]]
        if self._hand is not None and self._hand[:2] == (what, at):
            return self._hand[2]
        if at == hand:
            self._hand = None  # before another is made: one block is held in hand, and no more
        x = make()
        if x.nbytes <= self.free:
            self.free -= x.nbytes
            self._kept[what, at[0]] = x
        elif at == hand:
            self._hand = what, at, x
        return x

    def _read(self, at: At) -> Tensor:
        x, valid = self.vectors.rows(*at)
        self._valid[at[0]] = valid
        return torch.from_numpy(x).to(self.device)

    def _factors(self, at: At) -> Tensor:
        x = self.centred(at, at)
        self._measure(at, x)
        return bounds.rounded(x, self.kind)

    def tops(self, rows: int, k: int, largest: bool) -> best.Tops:
        return best.Tops(rows, k, largest, self.device)

    def distances(self, x: Tensor, y: Tensor, rows: Array, columns: Array) -> Array:
        return bounds.exact(x, y, rows, columns)


def _free(device: torch.device) -> int:
    """Bytes."""
    if device.type != "cuda":
        return 1 << 30
    torch.cuda.empty_cache()  # what PyTorch keeps of freed memory counts as taken
    return torch.cuda.mem_get_info(device)[0]
