"""The sheets of a finished run: samples, walks between latents, sweeps of codes, style transfer, an interpolation
between two styles, a map of styles, answers. Each needs an ability of the family."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from models.abilities import Answers, DrawsSamples, EncodesStyle, TakesCodes, WalksLatents
from models.common.seeds import seeded
from pipeline.artifacts.progress import follow
from pipeline.data.tensors import to_tensor, to_uint8
from pipeline.runs.sampler import Row, chosen_rows, sample
from pipeline.tracking import sheets

VERSION = 2
"""Raised when a page changes: pages of before are then made anew."""
WALK = 9
"""Pictures of a walk between two latents."""


@torch.no_grad()
def samples(family: DrawsSamples, rows: Sequence[Row], count: int, sampler: str, seed: int, note: str) -> Image.Image:
    """A row an input, `count` samples each."""
    shown = follow(rows, f"samples: {sampler}", unit="inputs")
    drawn = [sample(family, row.given, row.name, count, sampler, seed) for row in shown]
    cells = [[*row.shown, *pictures] for row, pictures in zip(rows, drawn, strict=True)]
    inputs = ["input", *(f"input {i + 2}" for i in range(len(rows[0].shown) - 1))][: len(rows[0].shown)]
    columns = [*inputs, *(f"{sampler} {i + 1}" for i in range(count))]
    names = [f"{row.name}\n{row.label or ''}".strip() for row in rows]
    return sheets.sheet(cells, names, columns, f"Samples: {sampler}", note)


@torch.no_grad()
def walk(family: WalksLatents, rows: Sequence[Row], seed: int, note: str) -> Image.Image:
    """A row an input: `WALK` pictures from one latent to another."""
    walked = [family.walk(row.given, WALK, seeded(seed, "walk", row.name))[0] for row in rows]
    cells = [[*row.shown, *map(to_uint8, pictures)] for row, pictures in zip(rows, walked, strict=True)]
    return sheets.sheet(cells, [row.name for row in rows], (), "Between two latents", note)


@torch.no_grad()
def sweeps(
    drawing: DrawsSamples, codes: TakesCodes, rows: Sequence[Row], seed: int, note: str
) -> dict[str, Image.Image]:
    """For each of the family's sweeps: a row an input, a column a code; the noise of a row stays the same.

    Args:
        drawing: the family.
        codes: the same.
    """
    made = {}
    for name, sweep in codes.sweeps().items():
        cells = [
            [sample(drawing, {**row.given, "code": code[None]}, row.name, 1, seed=seed)[0] for code in sweep]
            for row in rows
        ]
        columns = [" ".join(f"{value:g}" for value in code) for code in sweep.tolist()]
        made[f"sweep-{name}"] = sheets.sheet(cells, [row.name for row in rows], columns, f"Codes: {name}", note)
    return made


@torch.no_grad()
def styles(
    family: EncodesStyle, rows: Sequence[Row], given: Sequence[Row], note: str, limit: int
) -> dict[str, Image.Image]:
    """Transfer (rows = inputs, columns = `limit` of the given styles), the walk from the first of these to the last,
    the map of all. A style is a row with one picture."""
    chosen = chosen_rows(given, limit)
    encoded = follow(given, "encode styles", unit="pictures")
    code = {row.name: family.codes(to_tensor([row.shown[0]])) for row in encoded}
    cells: list[list[np.ndarray | None]] = [[None, *(style.shown[0] for style in chosen)]]
    for row in follow(rows, "transfer styles", unit="inputs"):
        out = [family.generate(row.given, code[style.name]) for style in chosen]
        cells.append([*row.shown[:1], *(to_uint8(x[0]) for x in out)])
    columns = ["", *(style.name for style in chosen)]
    made = {"transfer": sheets.sheet(cells, ["style", *(r.name for r in rows)], columns, "Style transfer", note)}
    steps = np.linspace(0, 1, 9)
    ends = code[chosen[0].name], code[chosen[-1].name]
    walk = [to_uint8(family.generate(rows[0].given, torch.lerp(*ends, float(t)))[0]) for t in steps]
    title = f"From {chosen[0].name} to {chosen[-1].name}"
    made["interpolation"] = sheets.strip(walk, [f"{t:.2f}" for t in steps], title, note)
    if len(given) > 2:
        points = flatten(torch.cat([code[row.name] for row in given]))
        made["style-map"] = sheets.style_map(points, [row.shown[0] for row in given], "Style codes", note)
    return made


@torch.no_grad()
def answers(family: Answers, rows: Sequence[Row], count: int) -> list[dict[str, object]]:
    """Of each row its key in the data set, its name and the `count` best answers with their scores."""
    found: list[dict[str, object]] = []
    for row in follow(rows, "answer", unit="questions"):
        scores, places = family.answer(row.given)[0].float().sort(descending=True, stable=True)
        best = [(family.answers[int(p)], float(s)) for s, p in zip(scores[:count], places[:count], strict=True)]
        found.append({"key": row.key, "row": row.name, "answers": [{"answer": a, "score": s} for a, s in best]})
    return found


def flatten(codes: torch.Tensor) -> np.ndarray:
    """`N D` codes -> `N 2`: their two principal components, signs fixed by the largest entry."""
    centred = codes.double() - codes.double().mean(0)
    _, _, v = torch.linalg.svd(centred, full_matrices=False)
    axes = v[:2]
    signs = torch.sign(axes.gather(1, axes.abs().argmax(1, keepdim=True)))
    points: np.ndarray = (centred @ (axes * signs).T).numpy()
    return points
