"""Text as word numbers. A sample may have several texts (captions): a batch takes one of them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from models.family import FieldSpec
from pipeline.data.kinds.kind import Kind

PAD, UNKNOWN, FIRST = 0, 1, 2
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[^\w\s]")


OPENINGS, OPENERS = 3, 100
"""Places at the beginning of a text whose most frequent words are known, and how many of them."""


def words(text: str) -> list[str]:
    """Lower-case words, with inner apostrophes, and single punctuation marks. Letters keep the marks that are combined
    with them (Devanagari, Arabic, decomposed accents). Scripts without spaces are not cut into words."""
    if text.isascii():
        return _WORD.findall(text.lower())
    return _word_of_any_script().findall(unicodedata.normalize("NFC", text.lower()))


@cache
def _word_of_any_script() -> re.Pattern[str]:
    """`_WORD`, where a letter may be followed by combining marks; `re` has no class for those."""
    marks = "".join(re.escape(chr(i)) for i in range(0x110000) if unicodedata.category(chr(i))[0] == "M")
    letters = rf"(?:[^\W_][{marks}]*)+"
    return re.compile(rf"{letters}(?:'{letters})*|[^\w\s]")


class Tokens(Kind):
    """The member holds a text, or a JSON list of texts."""

    name, extension, column = "tokens", "txt", pa.list_(pa.string())

    def read(self, data: bytes) -> list[str]:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"the text is not UTF-8 ({error.reason} at byte {error.start})") from error
        texts = json.loads(text) if text.startswith("[") else [text]
        if not texts or not all(isinstance(one, str) and words(one) for one in texts):
            raise ValueError(f"a text without a word: {text[:40]!r}")
        return list(texts)

    def write(self, value: Any) -> bytes:
        texts = [value] if isinstance(value, str) else list(value)
        plain = len(texts) == 1 and not texts[0].startswith("[")
        return (texts[0] if plain else json.dumps(texts, ensure_ascii=False)).encode()

    def parse(self, text: str, facts: dict[str, Any]) -> list[str]:
        return self.read(text.encode())

    def facts(self, values: Iterable[Any], named: Sequence[str]) -> dict[str, Any]:
        """`openers`: the most frequent first, second and third words."""
        counts: Counter[str] = Counter()
        opening: list[Counter[str]] = [Counter() for _ in range(OPENINGS)]
        for texts in values:
            for text in texts:
                found = words(text)
                counts.update(found)
                for counter, word in zip(opening, found, strict=False):
                    counter[word] += 1
        # By count, then by the alphabet: the same vocabulary for the same texts in any order.
        openers = [[word for word, _ in _ranked(counter)[:OPENERS]] for counter in opening]
        ranked = _ranked(counts)
        return {"words": [w for w, _ in ranked], "counts": [count for _, count in ranked], "openers": openers}

    def batch(
        self, name: str, values: Sequence[Any], spec: FieldSpec, facts: dict[str, Any], choices: Sequence[float]
    ) -> dict[str, Tensor]:
        numbers = _numbers(facts)
        rows = []
        for texts, choice in zip(values, choices, strict=True):
            found = [numbers.get(word, UNKNOWN) for word in words(texts[int(choice * len(texts))])]
            rows.append(found[: spec.length] if spec.length else found)
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        padded = torch.full((len(rows), max(1, int(lengths.max()))), PAD, dtype=torch.int64)
        for place, row in zip(padded, rows, strict=True):
            place[: len(row)] = torch.tensor(row, dtype=torch.int64)
        return {name: padded, f"{name}_length": lengths}

    def shown(self, value: Tensor, facts: dict[str, Any]) -> np.ndarray | str:
        known = facts["words"]
        return " ".join("?" if n == UNKNOWN else known[n - FIRST] for n in value.tolist() if n != PAD)


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


_vocabularies: dict[int, tuple[Any, dict[str, int]]] = {}


def _numbers(facts: dict[str, Any]) -> dict[str, int]:
    """Word -> number; made once for each vocabulary."""
    known = facts["words"]
    if id(known) not in _vocabularies:  # the list is kept beside it, so that its id stays its own
        _vocabularies[id(known)] = (known, {word: place + FIRST for place, word in enumerate(known)})
    return _vocabularies[id(known)][1]


KIND = Tokens()
