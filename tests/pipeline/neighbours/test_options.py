"""What can be asked of a search."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ByteSize

from pipeline.neighbours.options import Certified, Exact, Index, Options


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        (Exact, {"near": 0}, "--near 0: give at least 1"),
        (Exact, {"spans": -1}, r"--spans -1: give 0 \(chosen for you\) or more"),
        (Exact, {"gpus": -1}, "--gpus -1: give 0 or more"),
        (Exact, {"memory": ByteSize(0)}, "--memory 0: give a size"),
        (Certified, {"directions": 0}, "--directions 0: give at least 1"),
        (Certified, {"far_cap": 1.5}, "--far-cap 1.5: give a share"),
        (Index, {"recall_sample": 0}, "--recall-sample 0: give at least 1"),
        (Index, {"probes": -1}, r"--probes -1: give 0"),
    ],
)
def test_numbers_out_of_range(kind: type[Options], given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        kind(**given)
