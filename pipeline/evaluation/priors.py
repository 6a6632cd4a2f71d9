"""Baselines without a network (Antol et al., ICCV 2015, section 5.2): random, prior, nearest neighbour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.search.nearest import most_similar


def top_answers(answers: Iterable[str], count: int) -> tuple[str, ...]:
    """The `count` most frequent of the training questions' answers, equal ones in alphabetical order.

    Raises:
        ValueError: no answers.
    """
    counts = Counter(answers)
    if not counts:
        raise ValueError("no answers to choose from")
    return tuple(sorted(counts, key=lambda answer: (-counts[answer], answer))[:count])


def random_answers(answers: Sequence[str], questions: int, generator: torch.Generator) -> list[str]:
    """Each question's answer drawn evenly from `answers`, the paper's 1,000 most frequent ones."""
    drawn = torch.randint(len(answers), (questions,), generator=generator)
    return [answers[int(i)] for i in drawn]


def prior(answers: Sequence[str]) -> str:
    """The most frequent training answer: "yes"."""
    return top_answers(answers, 1)[0]


def type_priors(types: Sequence[str], answers: Sequence[str]) -> dict[str, str]:
    """Question type -> the most frequent training answer (one a question) of that type; of equally frequent ones that
    which comes first in `answers`.

    Raises:
        ValueError: not one type for each answer.
    """
    if len(types) != len(answers):
        raise ValueError(f"{len(types)} question types for {len(answers)} answers: give one for each")
    groups: dict[str, list[str]] = {}
    for kind, answer in zip(types, answers, strict=True):
        groups.setdefault(kind, []).append(answer)
    return {kind: Counter(group).most_common(1)[0][0] for kind, group in groups.items()}


def neighbours_answer(answers: Sequence[str], similarities: Sequence[float]) -> str:
    """The most frequent of the nearest training questions' answers; of equally frequent ones the one whose questions
    are most similar in sum, then the first in alphabetical order.

    Raises:
        ValueError: no neighbours.
    """
    if not answers:
        raise ValueError("no neighbours: search at least one")
    counts = Counter(answers)
    weight: Counter[str] = Counter()
    for answer, similarity in zip(answers, similarities, strict=True):
        weight[answer] += similarity  # type: ignore[assignment]  # a Counter of floats
    return min(counts, key=lambda answer: (-counts[answer], -weight[answer], answer))


def nearest_images(
    neighbours: Int[Tensor, "q k"], images: Float[Tensor, "q d"], known: Float[Tensor, "n d"]
) -> Int[Tensor, " q"]:
    """Of each question's k nearest training questions the one whose image is most similar (cosine) to its own: its
    answer is the paper's nearest-neighbour answer where images are known. Ties to the nearer question."""
    unit, own = (torch.nn.functional.normalize(x, dim=-1) for x in (known, images))
    similar = (unit[neighbours] * own[:, None]).sum(-1)  # Q K
    return neighbours.gather(1, similar.argmax(1, keepdim=True))[:, 0]


def bag(rows: Sequence[Sequence[int]], size: int) -> Float[Tensor, "q v"]:
    """Unit vectors of word counts, which a search of nearest questions compares: their inner product is the cosine."""
    counts = torch.zeros(len(rows), size)
    for number, row in enumerate(rows):
        counts[number] += torch.bincount(torch.tensor(row, dtype=torch.int64), minlength=size).float()
    return torch.nn.functional.normalize(counts, dim=1)


WORDS = 1000
"""The most frequent words of the training questions, by which questions are compared."""


def neighbours(
    known: Sequence[Sequence[str]], asked: Sequence[Sequence[str]], k: int
) -> tuple[Int[np.ndarray, "q k"], Float[np.ndarray, "q k"]]:
    """(positions, cosines) of the k training questions that are most similar to each of `asked`, as bags of the
    training questions' `WORDS` most frequent words; exact, by FAISS. The paper compares skip-thought vectors.

    Raises:
        ValueError: fewer than k training questions.
    """
    counts = Counter(word for words in known for word in words)
    numbers = {word: i for i, word in enumerate(sorted(counts, key=lambda word: (-counts[word], word))[:WORDS])}

    def bags(some: Sequence[Sequence[str]]) -> Float[np.ndarray, "n v"]:
        return bag([[numbers[word] for word in words if word in numbers] for words in some], len(numbers)).numpy()

    return most_similar(bags(asked), bags(known), k)
