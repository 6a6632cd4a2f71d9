"""Edits of pictures object by object, for families with that ability: the states of a picture's maps, and the sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.abilities import EditsObjects
from models.common import objects
from models.common.objects import Maps, Object
from models.family import Batch
from pipeline.data import kinds
from pipeline.data.tensors import coloured, to_tensor, to_uint8
from pipeline.tracking import sheets

CELL = 128
SMALL = 0.3
"""Share of the picture up to which an object is chosen to be changed or removed, if there is one."""
FILLED = 0.7
"""And that fill this share of their box: what is removed leaves a place that its surroundings can take."""


@dataclass(frozen=True)
class State:
    """A picture's maps, and the styles chosen for its objects."""

    maps: Maps
    styles: Mapping[int, int] = field(default_factory=dict)
    """Object -> number of its style; the other objects' follow from the seed."""
    name: str = ""
    """What was done last."""
    touched: Tensor | None = None
    """Pixels of the object it was done to, bool `H W`."""


@dataclass(frozen=True)
class Edit:
    """One edit, as an option asks for it."""

    option: str
    """With its values, as errors name it."""
    act: Callable[[State], State]


@dataclass(frozen=True)
class Picture:
    """A picture whose objects are edited."""

    name: str
    start: State
    truth: np.ndarray | None = None
    """The photograph, where there is one."""


def with_objects(given: Batch, reads: Sequence[str]) -> Batch:
    """For runs that read (`reads`) no map of objects: the connected components of each class are the objects, where
    `given`, one row, has none."""
    if {"instances"} & {*given, *reads} or given["input"].ndim != 3:
        return given
    [labels] = given["input"].numpy()
    return {**given, "instances": to_tensor([kinds.named("connected_components").seen(labels)])}


def change(one: int, to: int, classes: int) -> Edit:
    """Object `one` becomes of class `to`."""

    def act(state: State) -> State:
        place = objects.where(state.maps[1], one)
        made = objects.change_class(*state.maps, one, known(to, classes))
        return replace(state, maps=made, name=f"{one}: class {to}", touched=place)

    return Edit(f"--change {one} {to}", act)


def remove(one: int) -> Edit:
    """What surrounds object `one` takes its place."""

    def act(state: State) -> State:
        place = objects.where(state.maps[1], one)
        styles = {other: style for other, style in state.styles.items() if other != one}
        return State(objects.remove(*state.maps, one), styles, f"{one} removed", place)

    return Edit(f"--remove {one}", act)


def add(option: str, kind: int, place: Tensor, classes: int) -> Edit:
    """A new object of class `kind` at the pixels `place` (bool `H W`)."""

    def act(state: State) -> State:
        if place.shape != state.maps[0].shape:
            there, here = (" x ".join(map(str, x.shape)) for x in (place, state.maps[0]))
            raise ValueError(f"the mask is {there} pixels, the maps are {here}")
        made = objects.add(*state.maps, place, known(kind, classes))
        return replace(state, maps=made, name=f"{int(made[1].max())} added: class {kind}", touched=place)

    return Edit(option, act)


def rectangle(box: Sequence[int], size: Sequence[int]) -> Tensor:
    """Its pixels, bool `H W` of `size`; `box`: top, left, height, width.

    Raises:
        ValueError: it does not lie within the picture.
    """
    top, left, height, width = box
    if min(top, left) < 0 or min(height, width) < 1 or top + height > size[0] or left + width > size[1]:
        raise ValueError(f"top, left, height and width of a rectangle within {size[0]} x {size[1]} pixels are wanted")
    place = torch.zeros(*size, dtype=torch.bool)
    place[top : top + height, left : left + width] = True
    return place


def style(one: int, number: int) -> Edit:
    """Object `one` gets style `number` of its class."""

    def act(state: State) -> State:
        place = objects.where(state.maps[1], one)
        return State(state.maps, {**state.styles, one: number}, f"{one}: style {number}", place)

    return Edit(f"--style {one} {number}", act)


def known(kind: int, classes: int) -> int:
    """`kind`, which is a class.

    Raises:
        ValueError: it is none.
    """
    if not 0 <= kind < classes:
        raise ValueError(f"no class {kind}: the run has {classes}, 0 to {classes - 1}")
    return kind


@contextmanager
def named(option: str) -> Iterator[None]:
    """An error within says the option."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error


def applied(family: EditsObjects, start: State, edits: Sequence[Edit], seed: int) -> list[tuple[State, np.ndarray]]:
    """After each edit, one upon the other: the state and its picture.

    Raises:
        ValueError: an edit that cannot be; it is named.
    """
    found, state = list[tuple[State, np.ndarray]](), start
    for edit in edits:
        with named(edit.option):
            state = edit.act(state)
            found.append((state, drawn(family, state, seed)))
    return found


def in_styles(family: EditsObjects, state: State, one: int, count: int, seed: int) -> list[tuple[State, np.ndarray]]:
    """Object `one` in the first `count` styles of its class, each upon `state`.

    Raises:
        ValueError: no such object, or its class has no styles.
    """
    kind = kind_of(state, one)
    there = family.styles()[kind]
    if not there:
        raise ValueError(f"object {one} is of class {kind}, which has no styles")
    edits = [style(one, number) for number in range(min(count, there))]
    return [pair for edit in edits for pair in applied(family, state, [edit], seed)]


def kind_of(state: State, one: int) -> int:
    """The class of an object."""
    objects.where(state.maps[1], one)
    return next(each.kind for each in objects.listed(*state.maps) if each.id == one)


def drawn(family: EditsObjects, state: State, seed: int) -> np.ndarray:
    """uint8 `H W 3`."""
    return to_uint8(family.picture_of(*state.maps, seed, state.styles))


def proposed(
    family: EditsObjects, picture: Picture, count: int, seed: int
) -> tuple[list[tuple[State, np.ndarray] | None], list[str]]:
    """An object's class changed, another one removed, a third in `count` styles, each upon the picture as it was; None
    where a picture has no object for it. And what was done, in words."""
    start, every = picture.start, objects.listed(*picture.start.maps)
    small = [one for one in every if one.pixels <= SMALL * start.maps[0].numel()] or every
    small = [one for one in small if one.pixels >= FILLED * one.box[2] * one.box[3]] or small
    styled = [one for one in every if family.styles()[one.kind] > 1]
    classes, to = len(family.styles()), _another(family, every, small[0])
    edits: list[Edit | None] = [
        change(small[0].id, to, classes) if to is not None else None,
        remove(small[min(1, len(small) - 1)].id) if len(every) > 1 else None,
    ]
    found: list[tuple[State, np.ndarray] | None] = []
    for edit in edits:
        found.append(applied(family, start, [edit], seed)[0] if edit else None)
    words = [pair[0].name for pair in found if pair]
    styles = in_styles(family, start, styled[0].id, count, seed) if styled else []
    words += [f"{styled[0].id} in styles"] if styled else []
    return [*found, *styles, *[None] * (count - len(styles))], words


def _another(family: EditsObjects, every: Sequence[Object], one: Object) -> int | None:
    """The class of most other objects of the picture, or the next one."""
    others = Counter(each.kind for each in every if each.kind != one.kind).most_common(1)
    classes = len(family.styles())
    if others:
        return others[0][0]
    return (one.kind + 1) % classes if classes > 1 else None


def shown_map(state: State) -> np.ndarray:
    """The classes as colours, the objects' edges dark; where an object was touched, the others pale. uint8 `H W 3`."""
    labels, ids = (x.numpy() for x in state.maps)
    page = coloured(labels)
    if state.touched is not None:
        page = np.where(state.touched.numpy()[..., None], page, 255 - (255 - page) // 3)
    edge = np.zeros(ids.shape, bool)
    edge[:-1] |= ids[1:] != ids[:-1]
    edge[:, :-1] |= ids[:, 1:] != ids[:, :-1]
    page[edge] //= 2
    return page.astype(np.uint8)


def rows(
    family: EditsObjects, picture: Picture, edits: Sequence[tuple[State, np.ndarray] | None], seed: int
) -> list[list[np.ndarray | None]]:
    """Two rows of a sheet: pictures, and below them the maps that they are of."""
    truth = [] if picture.truth is None else [picture.truth]
    above = [*truth, drawn(family, picture.start, seed), *(pair[1] if pair else None for pair in edits)]
    below = [*[None] * len(truth), shown_map(picture.start), *(shown_map(pair[0]) if pair else None for pair in edits)]
    return [above, below]


def chosen_sheet(
    family: EditsObjects, picture: Picture, edits: Sequence[tuple[State, np.ndarray]], seed: int, note: str
) -> Image.Image:
    """The edits of one picture, a column each."""
    columns = ["photograph"] * (picture.truth is not None) + ["unedited", *(state.name for state, _ in edits)]
    return sheets.sheet(rows(family, picture, edits, seed), [picture.name, "its maps"], columns, "Edits", note, CELL)


def proposed_sheet(family: EditsObjects, pictures: Sequence[Picture], count: int, seed: int, note: str) -> Image.Image:
    """Of each picture the edits that `proposed` chooses."""
    cells: list[list[np.ndarray | None]] = []
    names: list[str] = []
    for picture in pictures:
        edits, words = proposed(family, picture, count, seed)
        cells += rows(family, picture, edits, seed)
        names += [picture.name, "\n".join(words)]
    truth = ["photograph"] * any(picture.truth is not None for picture in pictures)
    columns = [*truth, "unedited", "class changed", "removed", *(f"style {i}" for i in range(count))]
    return sheets.sheet(cells, names, columns, "Edits of objects", note, CELL)


def untrained(family: EditsObjects, kinds: Iterable[int]) -> list[str]:
    """A warning for each class of which training saw no object. A run without styles does not know."""
    counts = family.styles()
    unseen = sorted({kind for kind in kinds if kind < len(counts) and not counts[kind]}) if any(counts) else []
    return [f"class {kind}: training saw no object of it, so what is drawn for it is arbitrary" for kind in unseen]


def table(family: EditsObjects, state: State) -> str:
    """The objects of a picture, a line each."""
    head = f"{'object':>8}{'class':>7}{'pixels':>8}{'top':>6}{'left':>6}{'height':>8}{'width':>7}{'styles':>8}"
    lines = [
        f"{one.id:>8}{one.kind:>7}{one.pixels:>8}{one.box[0]:>6}{one.box[1]:>6}{one.box[2]:>8}{one.box[3]:>7}"
        f"{family.styles()[one.kind]:>8}"
        for one in objects.listed(*state.maps)
    ]
    return "\n".join([head, *lines])
