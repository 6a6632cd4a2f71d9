"""Questions as numbers: words, vocabularies, padded rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

PAD = 0
UNKNOWN = 1
FIRST = 2
"""Ids below it stand for no word."""
LONGEST = 26
"""Words of a question; the rest is cut. Source: released code."""
_WORD = re.compile(r"n't|'\w+|\w+?(?=n't\b)|\w+|[^\w\s]")


def words(text: str) -> list[str]:
    """Lower-case words and signs of any script, with English endings apart: "What's the man's?" -> what 's the man 's ?
    (as the Penn Treebank writes them)."""
    return _WORD.findall(text.lower().replace("’", "'"))


@dataclass(frozen=True)
class Vocabulary:
    """Words by frequency, the most frequent first, equal ones in alphabetical order; word i has the id FIRST + i."""

    words: tuple[str, ...]
    openers: tuple[tuple[str, ...], ...] = ()
    """The most frequent first, second and third words."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {word: FIRST + i for i, word in enumerate(self.words)})

    def __len__(self) -> int:
        """Ids there are: the words', PAD and UNKNOWN."""
        return FIRST + len(self.words)

    def id(self, word: str) -> int:
        """The word's id, or UNKNOWN."""
        found: int = self._ids.get(word, UNKNOWN)  # type: ignore[attr-defined]
        return found

    def ids(self, text: str, longest: int = LONGEST) -> list[int]:
        """The first `longest` words' ids. A text without any word is one UNKNOWN: recurrent networks need a step."""
        return [self.id(word) for word in words(text)[:longest]] or [UNKNOWN]

    def knows(self, text: str) -> bool:
        """Whether any of its words is in the vocabulary: questions that are not should be counted."""
        return any(self.id(word) != UNKNOWN for word in words(text))


def vocabulary(texts: Iterable[str], least: int = 1, openers: int = 10, places: int = 3) -> Vocabulary:
    """The words that occur at least `least` times in the training questions, and the `openers` most frequent ones at
    each of the first `places` places (Antol et al., section 5.1).

    Raises:
        ValueError: no words at all.
    """
    counts: Counter[str] = Counter()
    opening: list[Counter[str]] = [Counter() for _ in range(places)]
    for text in texts:
        found = words(text)
        counts.update(found)
        for counter, word in zip(opening, found, strict=False):
            counter[word] += 1
    if not counts:
        raise ValueError("no words in the questions: are the texts empty?")
    kept = tuple(word for word in _ranked(counts) if counts[word] >= least)
    return Vocabulary(kept, tuple(tuple(_ranked(counter)[:openers]) for counter in opening))


def top_answers(answers: Iterable[str], count: int) -> tuple[str, ...]:
    """The `count` most frequent of the training questions' answers, equal ones in alphabetical order.

    Raises:
        ValueError: no answers.
    """
    counts = Counter(answers)
    if not counts:
        raise ValueError("no answers to choose from")
    return tuple(_ranked(counts)[:count])


def _ranked(counts: Counter[str]) -> list[str]:
    return sorted(counts, key=lambda word: (-counts[word], word))


def padded(rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "b t"], Int[Tensor, " b"]]:
    """Ids and lengths: rows of equal length, filled with PAD on the right. (The released code fills on the left and
    skips the filling, which is the same to a network that is told the lengths.)

    Raises:
        ValueError: a row without ids.
    """
    if not all(rows):
        raise ValueError("a question without words: give it the id of an unknown one")
    longest = max(len(row) for row in rows)
    filled = [[*row, *[PAD] * (longest - len(row))] for row in rows]
    return torch.tensor(filled), torch.tensor([len(row) for row in rows])
