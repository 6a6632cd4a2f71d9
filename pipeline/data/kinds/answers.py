"""Answers of several people to one question, with how many gave each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from models.family import FieldSpec
from pipeline.data.kinds.kind import Kind


class Answers(Kind):
    """The member holds a JSON list of strings, one a person."""

    name, extension, column = "answers", "json", pa.list_(pa.string())

    def read(self, data: bytes) -> list[str]:
        try:
            found = json.loads(data)
        except ValueError as error:
            raise ValueError(f"answers are a JSON list of strings ({error})") from error
        if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
            raise ValueError(f"answers are a list of strings with at least one, got {str(found)[:40]}")
        return found

    def write(self, value: Any) -> bytes:
        return json.dumps([value] if isinstance(value, str) else list(value), ensure_ascii=False).encode()

    def facts(self, values: Iterable[Any], named: Sequence[str]) -> dict[str, Any]:
        """`answers`: each sample's most frequent answer, ranked over the samples."""
        counts = Counter(Counter(sorted(given)).most_common(1)[0][0] for given in values)
        ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return {"answers": [answer for answer, _ in ranked], "counts": [count for _, count in ranked]}

    def batch(
        self, name: str, values: Sequence[Any], spec: FieldSpec, facts: dict[str, Any], choices: Sequence[float]
    ) -> dict[str, Tensor]:
        """`spec.length`: answers of the vocabulary that are kept; 0: all."""
        known = facts["answers"][: spec.length or None]
        places = {answer: place for place, answer in enumerate(known)}
        counts = torch.zeros(len(values), len(known))
        for row, given in zip(counts, values, strict=True):
            for answer in given:
                if answer in places:
                    row[places[answer]] += 1
        return {name: counts}

    def shown(self, value: Tensor, facts: dict[str, Any]) -> np.ndarray | str:
        return str(facts["answers"][int(value.argmax())]) if bool(value.any()) else "?"


KIND = Answers()
