"""Label maps that are painted: each class in its colour. Colours become ids when they are read.

A lossless picture holds its palette's colours and no others; what else it holds is an error, or the class of all others
where the palette has one. JPEG smears colours: each pixel takes the nearest, and the share of pixels further than
TOLERANCE from it is told (there, with a class of all others, they are of that).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.artifacts import storage

Colour = tuple[int, int, int]

TOLERANCE = 40
"""Largest difference of a channel, 0-255, up to which a smeared colour is taken for its class's."""


@dataclass(frozen=True)
class Palette:
    """Colours of the ids 0, 1, ..."""

    colours: tuple[Colour, ...]
    other: bool = False
    """Whether every other colour is of one more class, the last."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "colours", tuple(tuple(c) for c in self.colours))  # lists, where read from JSON
        wrong = [c for c in self.colours if len(c) != 3 or not all(0 <= v <= 255 for v in c)]
        if not self.colours or wrong or len(set(self.colours)) != len(self.colours):
            raise ValueError(f"a palette is distinct colours of three numbers, 0 to 255: {wrong or self.colours}")

    def ids(self, image: np.ndarray, lossless: bool) -> tuple[np.ndarray, float]:
        """uint8 `H W 3` -> (ids `H W`, share of pixels further than TOLERANCE from their class's colour).

        Raises:
            ValueError: a lossless picture with a colour that is not in the palette.
        """
        packed = image.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
        seen, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
        colours = np.stack([seen >> 16, seen >> 8 & 255, seen & 255], 1)
        apart = colours[:, None] - np.array(self.colours)  # U P 3
        nearest = np.square(apart).sum(2).argmin(1)
        off = np.abs(np.take_along_axis(apart, nearest[:, None, None], 1)[:, 0]).max(1)
        unknown = off > (0 if lossless else TOLERANCE)
        if self.other:
            nearest[unknown] = len(self.colours)
        elif lossless and unknown.any():
            worst = colours[unknown][counts[unknown].argmax()].tolist()
            raise ValueError(f"{int(unknown.sum())} colours are not in the palette, such as {tuple(worst)}")
        kind = np.uint8 if len(self.colours) < 256 else np.int64
        return nearest.astype(kind)[places].reshape(packed.shape), float(counts[unknown].sum() / counts.sum())

    def paint(self, image: np.ndarray, ids: np.ndarray) -> None:
        """Give each pixel of `image` (uint8 `H W 3`, in place) its class's colour; those of the class of all others
        keep theirs."""
        known = ids < len(self.colours)
        image[known] = np.array(self.colours, np.uint8)[ids[known]]


def named(name: str) -> Palette:
    """`facades`, `cityscapes`, or a text file (local or s3://) of one `R G B` a line, with a last line `other` if every
    other colour is a class too.

    Raises:
        ValueError: no such palette, or not such a file.
    """
    if name in KNOWN:
        return KNOWN[name]
    try:
        lines = storage.read(storage.absolute(name, "--palette")).decode().split("\n")
        rows = [line.replace(",", " ").split() for line in lines if line.strip()]
        other = bool(rows) and rows[-1] == ["other"]
        return Palette(tuple((int(r), int(g), int(b)) for r, g, b in (rows[:-1] if other else rows)), other)
    except FileNotFoundError as error:
        raise ValueError(
            f"--palette {name}: choose one of {', '.join(KNOWN)}, or name a file of R G B lines"
        ) from error
    except (UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"--palette {name}: not lines of R G B ({error})") from error


KNOWN = {
    "facades": Palette(  # the CMP Facade Database as pix2pix packages it: read off its label maps
        (
            (0, 0, 222),
            (0, 48, 255),
            (0, 128, 255),
            (0, 207, 255),
            (32, 255, 224),
            (112, 255, 143),
            (192, 255, 63),
            (255, 240, 0),
            (255, 159, 0),
            (255, 80, 0),
            (254, 0, 0),
            (174, 0, 0),
        )
    ),
    "cityscapes": Palette(  # the 19 training classes in their order, and one for all others
        (
            (128, 64, 128),
            (244, 35, 232),
            (70, 70, 70),
            (102, 102, 156),
            (190, 153, 153),
            (153, 153, 153),
            (250, 170, 30),
            (220, 220, 0),
            (107, 142, 35),
            (152, 251, 152),
            (70, 130, 180),
            (220, 20, 60),
            (255, 0, 0),
            (0, 0, 142),
            (0, 0, 70),
            (0, 60, 100),
            (0, 80, 100),
            (0, 0, 230),
            (119, 11, 32),
        ),
        other=True,
    ),
}
