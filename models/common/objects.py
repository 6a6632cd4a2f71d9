"""Objects of label and instance maps: which there are, and edits of one picture's (pix2pixHD, section 3.4, figure 1).

The edits' maps are `h w`: class ids, and object ids. They return new maps and leave their arguments as they are.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Maps = tuple[Int[Tensor, "h w"], Int[Tensor, "h w"]]
"""Class ids, object ids."""


def numbered(ids: Int[Tensor, "b h w"]) -> tuple[Int[Tensor, "b h w"], int]:
    """(a number for each instance of each picture, how many): ids of any bit depth, the same id in two pictures are two
    instances."""
    values, inverse = torch.unique(ids, return_inverse=True)
    picture = torch.arange(len(ids), device=ids.device)[:, None, None]
    present, place = torch.unique(inverse + picture * len(values), return_inverse=True)
    return place, len(present)


def objects(
    labels: Int[Tensor, "b h w"], ids: Int[Tensor, "b h w"]
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"], Int[Tensor, " n"]]:
    """(class, share of the picture, picture) of each instance, in the rows' order of `instance_means`. The class is
    that of the instance's middle pixel in row-major order, where the released code reads the features."""
    place, count = numbered(ids)
    where = place.flatten()
    order = torch.sort(where, stable=True).indices  # each instance's pixels together, row by row
    sizes = torch.bincount(where, minlength=count)
    middle = order[sizes.cumsum(0) - sizes + sizes // 2]
    area = labels.shape[1] * labels.shape[2]
    return labels.flatten()[middle].long(), sizes / area, middle // area


@dataclass(frozen=True)
class Object:
    """One object of a picture."""

    id: int
    kind: int
    """Its class, as `objects` says."""
    pixels: int
    box: tuple[int, int, int, int]
    """Top, left, height, width; pixels."""


def listed(labels: Int[Tensor, "h w"], ids: Int[Tensor, "h w"]) -> list[Object]:
    """The objects of a picture, the largest first, those of one size by their ids."""
    kinds, _, _ = objects(labels[None], ids[None])
    found = []
    for one, kind in zip(torch.unique(ids).tolist(), kinds.tolist(), strict=True):
        rows, columns = torch.nonzero(ids == one, as_tuple=True)
        top, left = int(rows.min()), int(columns.min())
        box = top, left, int(rows.max()) + 1 - top, int(columns.max()) + 1 - left
        found.append(Object(one, kind, len(rows), box))
    return sorted(found, key=lambda one: (-one.pixels, one.id))


def change_class(labels: Int[Tensor, "h w"], ids: Int[Tensor, "h w"], one: int, to: int) -> Maps:
    """Object `one` becomes of class `to`.

    Raises:
        ValueError: there is no such object.
    """
    return torch.where(where(ids, one), torch.full_like(labels, to), labels), ids.clone()


def add(labels: Int[Tensor, "h w"], ids: Int[Tensor, "h w"], place: Bool[Tensor, "h w"], to: int) -> Maps:
    """A new object of class `to`; its id is one above the highest.

    Raises:
        ValueError: it would cover nothing.
    """
    if not bool(place.any()):
        raise ValueError("the new object covers no pixel")
    return torch.where(place, torch.full_like(labels, to), labels), torch.where(place, ids.max() + 1, ids)


def remove(labels: Int[Tensor, "h w"], ids: Int[Tensor, "h w"], one: int) -> Maps:
    """Object `one` is covered by what surrounds it, which grows into its place pixel by pixel.

    Raises:
        ValueError: there is no such object, or nothing else.
    """
    empty = where(ids, one)
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


def where(ids: Int[Tensor, "h w"], one: int) -> Bool[Tensor, "h w"]:
    """The pixels of object `one`.

    Raises:
        ValueError: there is no such object; the message names those there are.
    """
    found: Tensor = ids == one
    if not bool(found.any()):
        there = torch.unique(ids).tolist()
        raise ValueError(f"no object {one}: there are {', '.join(map(str, there[:20]))}{', ...' * (len(there) > 20)}")
    return found
