"""Styles of objects: the features of a class's objects, in clusters from which new pictures draw (section 3.4)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.common.seeds import seeded
from models.family import Table
from models.pix2pixhd.instances import instance_means, k_means, numbered, objects

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
        place, count = numbered(ids)
        kind, _, _ = objects(classes, ids)
        chance = torch.rand(count, generator=generator).to(self.centres.device)
        choice = (chance * self.counts[kind]).long()
        return self.centres[kind, choice][place].movedim(-1, 1)
