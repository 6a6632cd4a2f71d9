"""Parts of sheets that are drawn: words with weights, texts, frames, tables of counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Array = np.ndarray

PAPER, INK = (255, 255, 255), (20, 20, 20)
LIGHT = np.array([255, 170, 40])
"""Of the word that was read most."""
RIGHT, WRONG = (30, 150, 60), (190, 60, 50)
GAP = 4


def text(words: Sequence[str], side: int, weights: Sequence[float] = (), size: int = 13) -> Array:
    """Words as a picture, uint8 `side side 3`, broken into lines; what does not fit is cut. `weights`: one a word, by
    which each word's ground is coloured, the largest one full."""
    page = Image.new("RGB", (side, side), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=size)
    most = max(weights, default=0.0) or 1.0
    x = y = GAP
    for place, word in enumerate(words):
        width = round(font.getlength(word))
        if x + width > side - GAP and x > GAP:
            x, y = GAP, y + size + 2 * GAP
        if weights:
            share = max(weights[place], 0.0) / most
            ground = tuple((np.array(PAPER) + (LIGHT - PAPER) * share).round().astype(int).tolist())
            draw.rectangle((x - 2, y - 1, x + width + 1, y + size + 3), ground)
        draw.text((x, y), word, INK, font)
        x += width + 2 * GAP
    return np.asarray(page)


def framed(picture: Array, right: bool) -> Array:
    """The picture (uint8 `H W 3`) with a frame inside its edge: green where it is right, else red."""
    out, wide = picture.copy(), max(2, len(picture) // 32)
    colour = RIGHT if right else WRONG
    out[:wide], out[-wide:], out[:, :wide], out[:, -wide:] = colour, colour, colour, colour
    return out


def matrix(counts: Array, names: Sequence[str], title: str, cell: int = 44) -> Image.Image:
    """Counts `N N` as a table: the rows' names on the left, the columns' above; a cell is shaded by its share of the
    row, and on the diagonal in another colour."""
    small, big = ImageFont.load_default(size=12), ImageFont.load_default(size=16)
    left = max(round(small.getlength(name)) for name in names) + 3 * GAP
    head = 16 + 3 * GAP
    high = left  # names above stand upright
    width = max(left + cell * (len(names) + 1), round(big.getlength(title)) + GAP) + GAP
    page = Image.new("RGB", (width, head + high + cell * len(names) + GAP), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((GAP, GAP), title, INK, big)
    for i, name in enumerate([*names, "all"]):
        upright = Image.new("RGB", (high, cell), PAPER)
        ImageDraw.Draw(upright).text((GAP, cell // 2 - 8), name, INK, small)
        page.paste(upright.rotate(90, expand=True), (left + i * cell, head))
    for i, name in enumerate(names):
        y, total = head + high + i * cell, int(counts[i].sum())
        draw.text((GAP, y + cell // 2 - 8), name, INK, small)
        for j, count in enumerate([*counts[i].tolist(), total]):
            x = left + j * cell
            share = count / total if total and j < len(names) else 0.0
            full = np.array(RIGHT if i == j else WRONG)
            ground = tuple((np.array(PAPER) + (full - PAPER) * share).round().astype(int).tolist())
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), ground if j < len(names) else PAPER)
            if count:
                ink = PAPER if share > 0.6 else INK
                draw.text((x + (cell - small.getlength(str(count))) / 2, y + cell // 2 - 8), str(count), ink, small)
    return page
