"""Coloured shapes with questions whose answers are known: a made-up set for question answering.

A picture holds two to four shapes that do not touch. Questions: the colour of the one circle, the shape of the one red
thing, how many squares there are, whether there is a blue cross. Within a kind of question all answers are equally
likely: the question alone tells next to nothing. `box` says where the thing asked about lies (top, left, bottom,
right in shares of the sides; zeros where it is not one thing).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from pipeline.data import decode, kinds
from pipeline.data.samples import Entry, Field, Reader, Source

BUILT_IN = True
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 230),
    "yellow": (240, 210, 40),
    "purple": (160, 60, 190),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "cross", "square", "triangle")
TYPES = ("color", "count", "exists", "shape")
ANSWER_TYPES = ("number", "other", "yes/no")
PEOPLE = 10


@dataclass(frozen=True)
class Scene:
    """One picture with its question."""

    image: np.ndarray
    """uint8 `H W 3`."""
    question: str
    answer: str
    kind: str
    """One of `TYPES`."""
    box: tuple[float, float, float, float]
    """Top, left, bottom, right of the thing asked about, in [0, 1]; zeros: none."""


Thing = tuple[str, str]
"""(shape, colour)."""


def scene(number: int, kind: str, size: int = 64, seed: int = 0, split: str = "train") -> Scene:
    """Scene `number` of a split."""
    word = hashlib.sha256(f"{seed}/{split}/{number}/{kind}".encode()).digest()[:8]
    random = np.random.default_rng(int.from_bytes(word))
    things, question, answer, asked = _plot(kind, random)
    places = _places(len(things), size, random)
    image = np.clip(random.normal(70, 8, (size, size, 3)), 0, 255)
    for (shape, colour), (y, x, radius) in zip(things, places, strict=True):
        paint = np.array(COLOURS[colour]) * random.uniform(0.85, 1.0)
        image[_mask(shape, y, x, radius, size)] = paint
    box = (0.0, 0.0, 0.0, 0.0)
    if asked is not None:
        y, x, radius = places[asked]
        box = ((y - radius) / size, (x - radius) / size, (y + radius) / size, (x + radius) / size)
    return Scene(image.round().astype(np.uint8), question, answer, kind, box)


def _pick(random: np.random.Generator, choices: Sequence[str], but: str = "") -> str:
    left = [choice for choice in choices if choice != but]
    return left[int(random.integers(len(left)))]


def _plot(kind: str, random: np.random.Generator) -> tuple[list[Thing], str, str, int | None]:
    """(things, question, answer, which one is asked about)."""
    colours, others = tuple(COLOURS), int(random.integers(1, 4))
    shape, colour = _pick(random, SHAPES), _pick(random, colours)
    if kind == "color":
        rest = [(_pick(random, SHAPES, shape), _pick(random, colours)) for _ in range(others)]
        return [(shape, colour), *rest], f"what color is the {shape}?", colour, 0
    if kind == "shape":
        rest = [(_pick(random, SHAPES), _pick(random, colours, colour)) for _ in range(others)]
        return [(shape, colour), *rest], f"what shape is the {colour} thing?", shape, 0
    if kind == "count":
        count = int(random.integers(0, 4))
        rest = [(_pick(random, SHAPES, shape), _pick(random, colours)) for _ in range(4 - count)]
        same = [(shape, _pick(random, colours)) for _ in range(count)]
        return [*same, *rest], f"how many {shape}{'es' if shape == 'cross' else 's'} are there?", str(count), None
    if random.random() < 0.5:
        rest = [(_pick(random, SHAPES), _pick(random, colours)) for _ in range(others)]
        return [(shape, colour), *rest], f"is there a {colour} {shape}?", "yes", 0
    # Its shape and its colour are there, but not in one thing.
    near = [(shape, _pick(random, colours, colour)), (_pick(random, SHAPES, shape), colour)]
    more = [(_pick(random, SHAPES, shape), _pick(random, colours)) for _ in range(others - 1)]
    return [*near, *more], f"is there a {colour} {shape}?", "no", None


def _places(count: int, size: int, random: np.random.Generator) -> list[tuple[float, float, float]]:
    """(y, x, radius) of things that do not touch."""
    while True:
        found: list[tuple[float, float, float]] = []
        for _ in range(200):
            radius = float(random.uniform(0.1, 0.14) * size)
            y, x = random.uniform(radius, size - radius, 2).tolist()
            if all(max(abs(y - b), abs(x - a)) > radius + r + 1 for b, a, r in found):
                found.append((y, x, radius))
            if len(found) == count:
                return found


def _mask(shape: str, y: float, x: float, radius: float, size: int) -> np.ndarray:
    """bool `H W`."""
    down, right = (np.mgrid[:size, :size] + 0.5) - np.array([y, x])[:, None, None]
    inside: np.ndarray = (abs(down) < radius) & (abs(right) < radius)
    if shape == "circle":
        inside = down**2 + right**2 < radius**2
    elif shape == "cross":
        inside &= (abs(down) < radius / 3) | (abs(right) < radius / 3)
    elif shape == "triangle":
        inside &= abs(right) < (down + radius) / 2
    return inside


@dataclass(frozen=True)
class Options:
    """How many scenes there are."""

    count: int = 4000
    """Of the training split."""
    held_out: int = 600
    """Of the validation split."""
    size: int = 64
    """Side, pixels; at least 32."""
    seed: int = 0

    ADDED: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class Shapes:
    """The scenes, kinds of question in turn."""

    options: Options
    left_out: Sequence[str] = ()

    @property
    def fields(self) -> dict[str, Field]:
        return {
            "image": Field("image"),
            "question": Field("question", kind="tokens"),
            "answers": Field("answers", kind="answers"),
            "question_type": Field("question_type", kind="class", names=TYPES),
            "answer_type": Field("answer_type", kind="class", names=ANSWER_TYPES),
            "box": Field("box", kind="array"),
        }

    def samples(self) -> dict[str, list[Entry]]:
        """Raises ValueError: sizes that are none."""
        o = self.options
        if o.size < 32 or o.count < 1 or o.held_out < 1:
            raise ValueError(
                f"--option size {o.size}, count {o.count}, held_out {o.held_out}: give at least 32, 1 and 1"
            )
        splits = {"train": o.count, "val": o.held_out}
        return {split: [self._entry(split, i) for i in range(count)] for split, count in splits.items()}

    def _entry(self, split: str, number: int) -> Entry:
        path = f"{split}/{number}/{TYPES[number % len(TYPES)]}"
        return Entry(path, dict.fromkeys(self.fields, path))

    @property
    def reader(self) -> Reader:
        return self.read

    def read(self, path: str, member: str) -> bytes:
        """`path` is split/number/kind."""
        split, number, kind = path.split("/")
        made = _scene(int(number), kind, self.options.size, self.options.seed, split)
        if member == "image":
            return decode.to_png(made.image)
        values: dict[str, Any] = {
            "question": made.question,
            "answers": [made.answer] * PEOPLE,
            "question_type": TYPES.index(kind),
            "answer_type": ANSWER_TYPES.index({"count": "number", "exists": "yes/no"}.get(kind, "other")),
            "box": made.box,
        }
        return kinds.named(self.fields[member].kind).write(values[member])


_scene = lru_cache(maxsize=4)(scene)


def open_source(place: str, options: Options) -> Source:
    return Shapes(options)


def read_only(place: str, options: Options) -> Reader:
    return open_source(place, options).reader
