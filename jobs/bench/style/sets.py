"""Sets of real pictures whose descriptors the style index's figures are measured on, kept between runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from jobs.bench.style import crops
from models.common.vgg import VGG
from pipeline.style.vectors import Vectors

Array = np.ndarray
FEW = 100
"""Pictures below which a set is measured on crops of each."""
CROPS_OF_EACH = 60
LEAST = 20
"""Images of a set: more than its longest list has."""
MOST = 1200
"""Images of a set at most."""


@dataclass(frozen=True)
class Sets:
    """The sets of one run: what is fitted on, and what is measured on."""

    sources: tuple[str, ...]
    folder: str
    net: VGG
    weights: str
    """Identity of the weights."""
    sample: int
    """Crops of each set that sketches of the others are fitted on."""
    seed: int

    @cached_property
    def names(self) -> dict[str, str]:
        """Short name -> source."""
        found = {}
        for source in self.sources:
            folder, _, side = source.partition(":")
            found["-".join(filter(None, (Path(folder).name, side)))] = source
        if len(found) < len(self.sources):
            raise ValueError(
                f"--sets {' '.join(self.sources)}: two have one name ({', '.join(found)}); rename a folder"
            )
        return found

    def fitted(self, name: str) -> Vectors:
        """Random crops of a set."""
        folder = f"{self.folder}/sample-{name}"
        found = crops.pictures(self.names[name])
        crops.kept(folder, found, self.sample, self.net, self.weights, self.seed)
        return Vectors(folder)

    def measured(self, name: str) -> Vectors:
        """The set's pictures whole, or crops of each where they are few."""
        folder = f"{self.folder}/measured-{name}"
        images = self._images(crops.pictures(self.names[name]))
        if len(images) < LEAST:
            raise ValueError(
                f"--sets {self.names[name]}: {len(images)} images; lists are sought among {LEAST} at least"
            )
        crops.kept_images(folder, images, self.net, self.weights)
        return Vectors(folder)

    def _images(self, found: list[Array]) -> list[Array]:
        if len(found) >= FEW:
            return [crops.whole(picture) for picture in found[:MOST]]
        # Another seed than the sample's; picture by picture, so that each has as many.
        seeds = ([self.seed + 1, i, n] for i in range(len(found)) for n in range(CROPS_OF_EACH))
        return [crops.crop(found[s[1]], np.random.default_rng(s)) for s in seeds][:MOST]
