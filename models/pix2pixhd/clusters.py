"""Styles of objects: the features of a class's objects, in clusters from which new pictures draw (section 3.4)."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.common.objects import numbered, objects, where
from models.common.seeds import seeded
from models.family import Table
from models.pix2pixhd.instances import instance_means, k_means

OBJECTS = 64
"""Objects of one picture that are kept, the largest."""


def rows_of_objects(
    features: Float[Tensor, "b f h w"], classes: Int[Tensor, "b h w"], ids: Int[Tensor, "b h w"]
) -> Table:
    """A row for each picture: `feature` `B OBJECTS F`, `class` `B OBJECTS` (-1 where there are fewer objects), `share`
    `B OBJECTS` of the picture's area; largest first."""
    means, _ = instance_means(features, ids)
    kind, share, picture = objects(classes, ids)
    rows = len(ids)
    found = {
        "feature": means.new_zeros(rows, OBJECTS, means.shape[1]),
        "class": kind.new_full((rows, OBJECTS), -1),
        "share": share.new_zeros(rows, OBJECTS),
    }
    for row in range(rows):
        mine = (picture == row).nonzero()[:, 0]
        mine = mine[share[mine].argsort(descending=True, stable=True)][:OBJECTS]
        for name, values in (("feature", means), ("class", kind), ("share", share)):
            found[name][row, : len(mine)] = values[mine]
    return found


class Clusters(nn.Module):
    """Up to `clusters` centres for each class, in buffers."""

    centres: Tensor
    counts: Tensor

    def __init__(self, classes: int, clusters: int, features: int) -> None:
        super().__init__()
        self.clusters = clusters
        self.register_buffer("centres", torch.zeros(classes, clusters, features))
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.int64))

    def fit(self, table: Table, least_area: float, seed: int) -> None:
        """Cluster the features of each class's objects that cover more than `least_area` of their picture; a class with
        none has no clusters.

        Args:
            table: rows of `rows_of_objects`, of the whole training set.
        """
        feature, kind = table["feature"].flatten(0, 1).float(), table["class"].flatten()
        large = table["share"].flatten() > least_area
        self.centres.zero_()
        self.counts.zero_()
        for one in range(len(self.counts)):
            mine = feature[(kind == one) & large]
            if len(mine):
                found = k_means(mine, self.clusters, seeded(seed, "clusters", one))
                self.centres[one, : len(found)] = found.to(self.centres)
                self.counts[one] = len(found)

    def drawn(
        self, classes: Int[Tensor, "b h w"], ids: Int[Tensor, "b h w"], generator: torch.Generator
    ) -> Float[Tensor, "b f h w"]:
        """A centre of its class for each object, all alike likely; 0 where the class has none."""
        place, kind, choice = self._draw(classes, ids, generator)
        return self.centres[kind, choice][place].movedim(-1, 1)

    def numbers(
        self, classes: Int[Tensor, "b h w"], ids: Int[Tensor, "b h w"], generator: torch.Generator
    ) -> Int[Tensor, "b h w"]:
        """The numbers of the centres that `drawn` takes."""
        place, _, choice = self._draw(classes, ids, generator)
        return choice[place]

    def _draw(self, classes: Tensor, ids: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """(each pixel's object, the objects' classes and numbers)."""
        place, count = numbered(ids)
        kind, _, _ = objects(classes, ids)
        chance = torch.rand(count, generator=generator).to(self.centres.device)
        return place, kind, (chance * self.counts[kind]).long()

    def chosen(
        self,
        labels: Int[Tensor, "h w"],
        ids: Int[Tensor, "h w"],
        groups: Int[Tensor, "h w"],
        seed: int,
        styles: Mapping[int, int],
    ) -> Float[Tensor, "1 f h w"]:
        """One picture's features. Objects named in `styles` (id -> cluster of its class) have that style; of the
        others, those with one number in `groups` share one, drawn by `seed` and that number alone: an edit of one
        object leaves the others' as they are. 0 where a class has none.

        Raises:
            ValueError: no such object, no such cluster in its class, or no clusters at all.
        """
        if styles and not bool(self.counts.any()):
            raise ValueError("this run has no styles yet: they are made at the end of its last stage")
        for one in styles:
            where(ids, one)
        found = self.centres.new_zeros(1, self.centres.shape[2], *ids.shape)
        kinds, _, _ = objects(labels[None], ids[None])
        for one, kind in zip(torch.unique(ids).tolist(), kinds.tolist(), strict=True):
            place, count = ids == one, int(self.counts[kind])
            if one in styles:
                choice = styles[one]
                if not 0 <= choice < count:
                    raise ValueError(f"object {one} is of class {kind}, which has {_styles(count)}: no style {choice}")
            else:
                chance = torch.rand((), generator=seeded(seed, "style", int(groups[place][0])))
                choice = int(chance * count)
            found[0, :, place] = self.centres[kind, choice][:, None]  # 0 where there are none
        return found


def _styles(count: int) -> str:
    return f"the styles 0 to {count - 1}" if count else "no styles"
