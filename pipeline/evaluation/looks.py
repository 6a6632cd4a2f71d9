"""Sheets of networks that read texts beside pictures: what they attend to, what they find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.abilities import Embeds
from models.common.overlay import overlay
from models.family import Batch
from pipeline.data import kinds
from pipeline.data.tensors import to_uint8
from pipeline.evaluation.setting import Setting
from pipeline.tracking import drawn, sheets

CELL = 160
FOUND = 5
"""Items shown of each query."""


def words(setting: Setting, field: str, numbers: Tensor) -> list[str]:
    """The words of one row of tokens as the network reads them: "?" where it does not know one."""
    shown = kinds.named("tokens").shown(numbers, dict(setting.run.facts.fields[field]))
    return str(shown).split()


def attention(setting: Setting, batch: Batch, weights: Mapping[str, Tensor], names: Sequence[str]) -> Image.Image:
    """A row a sample: the picture `image`, and of each step where the network looks (light) and what it reads (the
    darker a word's ground, the more). `weights`: as `Attends.attention`."""
    texts = [name for name in weights if setting.run.specs[name].kind == "tokens"]
    steps = next(iter(weights.values())).shape[1]
    rows = []
    for row in range(len(names)):
        cells = [to_uint8(batch["image"][row])]
        for step in range(steps):
            for field, given in weights.items():
                if field in texts:
                    read = words(setting, field, batch[field][row])
                    cells.append(drawn.text(read, CELL, given[row, step, : len(read)].tolist()))
                else:
                    cells.append(to_uint8(overlay(batch["image"][row : row + 1], given[row : row + 1, step])[0]))
        rows.append(cells)
    parts = ["words" if field in texts else "image" for field in weights]
    columns = ["image", *(f"step {k}: {part}" for k in range(1, steps + 1) for part in parts)]
    return sheets.sheet(rows, names, columns, "Attention", setting.note, CELL)


@dataclass(frozen=True)
class Side:
    """All values of one of two embedded fields, sample after sample."""

    field: str
    vectors: np.ndarray
    """float32 `N D`."""
    owner: np.ndarray
    """int64 `N`, ascending: the position of each one's sample."""


@torch.no_grad()
def embedded(setting: Setting, family: Embeds, field: str) -> Side:
    """The measured samples' values of a field, of a text all its sentences."""
    vectors, owners = [], []
    for batch in setting.each(field):
        vectors.append(family.embed(batch, field).float().cpu())
        owners.append(batch["index"])
    return Side(field, torch.cat(vectors).numpy(), torch.cat(owners).numpy())


def found(setting: Setting, queries: Side, pool: Side) -> Image.Image | None:
    """A row a query (the first value of a few samples): it, then what is most similar to it, best first, in a green
    frame where it is of the same sample. None where a field is neither a text nor beside pictures."""
    if not all(_drawable(setting, side.field) for side in (queries, pool)):
        return None
    rows = []
    for position in setting.images.rows_for_sheets(setting.options.sheet, setting.run.frame):
        if position >= setting.count:
            continue
        first = int(np.searchsorted(queries.owner, position))
        best = np.argsort(-(pool.vectors @ queries.vectors[first]), kind="stable")[:FOUND]
        cells = [drawn.framed(_cell(setting, pool, i), bool(pool.owner[i] == position)) for i in best.tolist()]
        rows.append([_cell(setting, queries, first), *cells])
    if not rows:
        return None
    query, wanted = (_shown(setting, side.field) for side in (queries, pool))
    columns = [f"query: {query}", *(str(place) for place in range(1, len(rows[0])))]
    return sheets.sheet(rows, [], columns, f"Retrieval: {wanted} for {query}", setting.note, CELL)


def _pictures(setting: Setting) -> list[str]:
    return [name for name, field in setting.data.fields.items() if field.kind == "image"]


def _drawable(setting: Setting, field: str) -> bool:
    there = setting.data.fields.get(field)
    return there is not None and (there.kind == "tokens" or bool(_pictures(setting)))


def _shown(setting: Setting, field: str) -> str:
    """The field that a cell shows: of features, the picture that they are of."""
    return field if setting.data.fields[field].kind == "tokens" else _pictures(setting)[0]


def _cell(setting: Setting, side: Side, place: int) -> np.ndarray:
    position = int(side.owner[place])
    if setting.data.fields[side.field].kind == "tokens":
        sentence = setting.data.column(side.field)[position][place - int(np.searchsorted(side.owner, position))]
        return drawn.text(sentence.split(), CELL)
    return setting.images.cut(position, _shown(setting, side.field), setting.run.frame)
