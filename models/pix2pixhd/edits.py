"""Edits of one picture's maps, object by object: its class, its place, its style (section 3.4 and figure 1).

Maps are `h w`: class ids, and object ids. All functions return new maps and leave their arguments as they are.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models.pix2pixhd.clusters import Clusters
from models.pix2pixhd.instances import numbered, objects

Maps = tuple[Int[Tensor, "h w"], Int[Tensor, "h w"]]
"""Class ids, object ids."""


def change_class(labels: Int[Tensor, "h w"], ids: Int[Tensor, "h w"], one: int, to: int) -> Maps:
    """Object `one` becomes of class `to`.

    Raises:
        ValueError: there is no such object.
    """
    return torch.where(_of(ids, one), torch.full_like(labels, to), labels), ids.clone()


def add(labels: Int[Tensor, "h w"], ids: Int[Tensor, "h w"], where: Bool[Tensor, "h w"], to: int) -> Maps:
    """A new object of class `to`; its id is one above the highest.

    Raises:
        ValueError: it would cover nothing.
    """
    if not bool(where.any()):
        raise ValueError("the new object covers no pixel")
    return torch.where(where, torch.full_like(labels, to), labels), torch.where(where, ids.max() + 1, ids)


def remove(labels: Int[Tensor, "h w"], ids: Int[Tensor, "h w"], one: int) -> Maps:
    """Object `one` is covered by what surrounds it, which grows into its place pixel by pixel.

    Raises:
        ValueError: there is no such object, or nothing else.
    """
    empty = _of(ids, one)
    if bool(empty.all()):
        raise ValueError(f"object {one} is all there is: nothing can take its place")
    labels, ids = labels.clone(), ids.clone()
    while bool(empty.any()):
        filled = empty.clone()
        for dim, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            beside = torch.roll(empty, step, dim)
            beside.select(dim, 0 if step == 1 else -1).fill_(True)  # rolled in from the other border
            take = filled & ~beside
            for values in (labels, ids):
                values[take] = torch.roll(values, step, dim)[take]
            filled &= ~take
        empty = filled
    return labels, ids


def features(
    clusters: Clusters,
    labels: Int[Tensor, "h w"],
    ids: Int[Tensor, "h w"],
    generator: torch.Generator,
    chosen: Mapping[int, int] | None = None,
) -> Float[Tensor, "1 f h w"]:
    """A feature map for `Pix2PixHD.styled`: objects named in `chosen` (id -> cluster of its class) have that style, the
    others a random one.

    Raises:
        ValueError: no such object, or no such cluster in its class.
    """
    found = clusters.drawn(labels[None], ids[None], generator)
    place, _ = numbered(ids[None])
    kinds, _, _ = objects(labels[None], ids[None])
    for one, choice in (chosen or {}).items():
        where = _of(ids, one)
        kind = int(kinds[place[0][where][0]])
        count = int(clusters.counts[kind])
        if not 0 <= choice < count:
            raise ValueError(f"object {one} is of class {kind}, which has {count} styles: there is no style {choice}")
        found[0, :, where] = clusters.centres[kind, choice][:, None]
    return found


def _of(ids: Int[Tensor, "h w"], one: int) -> Bool[Tensor, "h w"]:
    where: Tensor = ids == one
    if not bool(where.any()):
        raise ValueError(f"no object {one}: there are {', '.join(map(str, torch.unique(ids)[:20].tolist()))}")
    return where
