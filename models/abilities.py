"""What a trained family can be asked for: one protocol for each ability.

A job asks for an ability, never for a family's name: `require(family, DrawsSamples, "jobs.sample")`. A family that has
an ability's methods has the ability; nothing is declared. Everything here runs in one process, with averaged weights.
`given` is a batch with the fields that the family `reads`, and `"index"`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from models.common.graph import Graph
from models.common.objects import Maps
from models.family import Batch, Family, Table


@runtime_checkable
class DrawsSamples(Protocol):
    """draws samples"""

    samplers: tuple[str, ...]
    """Ways to draw, by name; the first is the default."""

    def sample(self, given: Batch, count: int, generator: torch.Generator, sampler: str = "") -> Tensor:
        """`B count C H W` in [-1, 1]: `count` outputs for each row of `given`. `generator` is a CPU generator."""


@runtime_checkable
class DrawsPoints(Protocol):
    """draws points"""

    def draws(self, rows: int, generator: torch.Generator) -> Tensor:
        """`rows D`: as many points. `generator` is a CPU generator."""


@runtime_checkable
class TakesCodes(Protocol):
    """takes codes whose meaning it found by itself"""

    def check_code(self, code: Sequence[float]) -> None:
        """Refuse a code of another length, or out of range.

        Raises:
            ValueError: the message says what a code is made of.
        """

    def sweeps(self) -> dict[str, Tensor]:
        """Name -> `S C`: codes that differ in one number alone. `given["code"]`, float `B C`, asks `sample` for one in
        each row; a family without such codes has no sweeps."""


@runtime_checkable
class WalksLatents(Protocol):
    """walks between two latents"""

    def walk(self, given: Batch, steps: int, generator: torch.Generator) -> Tensor:
        """`B steps C H W` in [-1, 1]: for each row of `given`, from one latent to another, evenly."""


@runtime_checkable
class Reconstructs(Protocol):
    """reconstructs a target from its own code"""

    def reconstruct(self, batch: Batch) -> Tensor:
        """`B C H W` in [-1, 1]: the output with the target's own code."""


@runtime_checkable
class EncodesStyle(Protocol):
    """encodes and decodes a style"""

    def codes(self, images: Tensor) -> Tensor:
        """`B D`: the style codes of pictures `B C H W`."""

    def generate(self, given: Batch, code: Tensor) -> Tensor:
        """`B C H W` in [-1, 1]: the output for given codes `B D`."""


@runtime_checkable
class GivesLikelihood(Protocol):
    """gives a likelihood"""

    def log_prob(self, batch: Batch) -> Tensor:
        """float64 `B`: log-probability of each row's target, nats."""

    def dimensions(self) -> int:
        """Numbers of one target (C x H x W): bits per dimension = -log_prob / (dimensions ln 2)."""


@runtime_checkable
class Completes(Protocol):
    """completes a picture"""

    def complete(self, batch: Batch, known: Tensor, generator: torch.Generator) -> Tensor:
        """`B C H W` in [-1, 1]: the target with what is not `known` (bool `B H W`) drawn again."""


@runtime_checkable
class Answers(Protocol):
    """answers questions"""

    answers: tuple[str, ...]
    """The vocabulary of answers."""

    def answer(self, given: Batch) -> Tensor:
        """float `B K`: a score for each answer of the vocabulary; the highest is the family's."""


@runtime_checkable
class Embeds(Protocol):
    """embeds two fields in one space"""

    embedded: tuple[str, str]
    """The two fields, e.g. ("image", "caption"); similarity is the inner product."""

    def embed(self, batch: Batch, field: str) -> Tensor:
        """`B D`: the vectors of one of the two fields."""


@runtime_checkable
class Attends(Protocol):
    """shows what it attends to"""

    def attention(self, given: Batch) -> dict[str, Tensor]:
        """Field -> weights of each of K steps, which sum to 1: `B K T` over the words of a text, `B K h w` over the
        regions of a picture. Empty where the network has no attention."""


@runtime_checkable
class JudgesSet(Protocol):
    """judges a whole set"""

    def judge(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Figures of all held-out batches together, where a mean over batches would be another number."""


@runtime_checkable
class SearchesNearest(Protocol):
    """searches the nearest of its samples to each target"""

    def search_by(self, how: str, samples: int) -> int:
        """Search by `how` from now on (empty: as the recipe says). Returns the number of candidates of each target:
        `samples`, or the recipe's where that is 0; 0 for a search level by level.

        Raises:
            ValueError: no such search, or a number of samples for one that has its own.
        """

    def search_seed(self, step: int, index: int) -> int:
        """The seed of the candidates of sample `index` in the search before step `step`."""

    def search(self, batch: Batch, seeds: Sequence[int], samples: int = 0) -> Table:
        """Of each row the nearest candidate: columns `seed`, `candidate`, `distance`, `runners_up`, `rejected`,
        `all_rejected`."""

    def found(self, batch: Batch, table: Table) -> Tensor:
        """`B C H W` in [-1, 1]: the chosen candidates, made again from their seeds and numbers (rows of `search`)."""


@runtime_checkable
class EditsObjects(Protocol):
    """edits objects"""

    def object_maps(self, given: Batch) -> Maps:
        """(class ids, object ids), int64 `H W` each, of the one row of `given` with its `instances`. What
        `models.common.objects` edits.

        Raises:
            ValueError: its inputs are no label maps, or there are no `instances`.
        """

    def styles(self) -> tuple[int, ...]:
        """Of each class, how many styles its objects can have."""

    def picture_of(self, labels: Tensor, ids: Tensor, seed: int, styles: Mapping[int, int]) -> Tensor:
        """`3 H W` in [-1, 1]: the picture of these maps. `styles`: object -> number of the style that it has; those of
        the other objects depend on `seed` and their ids, and stay as they are when another object is edited.

        Raises:
            ValueError: no such object, or no such style.
        """


@runtime_checkable
class Exports(Protocol):
    """exports its generator"""

    def graph(self, given: Batch, generator: torch.Generator) -> Graph:
        """The generator with the rows of `given` as examples; codes and noise are drawn from `generator` (on the CPU).

        Raises:
            ValueError: this run's generator makes no pictures.
        """


ABILITIES: tuple[type, ...] = (
    DrawsSamples,
    DrawsPoints,
    TakesCodes,
    WalksLatents,
    Reconstructs,
    EncodesStyle,
    GivesLikelihood,
    Completes,
    Answers,
    Embeds,
    Attends,
    JudgesSet,
    SearchesNearest,
    EditsObjects,
    Exports,
)

A = TypeVar("A")


def described(ability: type) -> str:
    """The ability in words: "draws samples"."""
    return (ability.__doc__ or ability.__name__).strip()


def can(family: Family) -> list[str]:
    """What the family can do, in words."""
    return [described(ability) for ability in ABILITIES if isinstance(family, ability)]


def require(family: Family, ability: type[A], job: str) -> A:
    """The family, known to have the ability.

    Raises:
        ValueError: it has not; the message lists what it can.
    """
    if not isinstance(family, ability):
        there = ", ".join(can(family)) or "nothing that a job asks for"
        raise ValueError(f"{job} needs a family that {described(ability)}; this one: {there}")
    return family
