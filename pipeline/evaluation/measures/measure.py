"""What a measure is, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image

from pipeline.evaluation.setting import Setting

Figures = dict[str, float | str]


@dataclass
class Found:
    """Figures, pictures and tables by name."""

    figures: Figures = field(default_factory=dict)
    sheets: dict[str, Image.Image] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    """CSV."""
    missing: dict[str, str] = field(default_factory=dict)
    """Measure that was not taken -> why."""


class Measure(Protocol):
    """One measure."""

    name: str
    ability: type
    """What the family must be able to do."""
    fields: Mapping[str, str]
    """Field -> kind that the data set must have."""

    def __call__(self, setting: Setting) -> Found:
        """Measure; pictures are made within `torch.no_grad`."""
