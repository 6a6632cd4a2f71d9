"""Pictures people judge by: sheets of images, interpolation strips, style maps.

Every picture carries a title and a note line that says which weights made it; `random` weights are shown loudly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.data.tensors import coloured

Array = np.ndarray

TEXT = 13
TITLE = 17
GAP = 3
MARGIN = 8
PAPER = (255, 255, 255)
INK = (20, 20, 20)
LOUD = (190, 0, 0)
EMPTY = (232, 232, 232)


def sheet(
    rows: Sequence[Sequence[Array | None]],
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
    title: str = "",
    note: str = "",
    cell: int = 96,
) -> Image.Image:
    """A grid of images: uint8 `H W 3` cells (None: an empty place), each fitted into `cell` x `cell` pixels.

    Rows may have different lengths. `row_names` stand on the left, `column_names` above; both may be shorter or empty.

    Raises:
        ValueError: no row, more names than rows or columns, or a cell that is not uint8 `H W 3`.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise ValueError("a sheet needs at least one row with one image")
    if len(row_names) > len(rows) or len(column_names) > columns:
        raise ValueError(
            f"{len(row_names)} row names for {len(rows)} rows, {len(column_names)} column names for {columns} columns"
        )
    font = _font(TEXT)
    row_lines = [_wrap(name, font, 150) for name in row_names]
    column_lines = [_wrap(name, font, cell) for name in column_names]
    left = max((_width(line, font) for lines in row_lines for line in lines), default=0) + (GAP * 2 if row_names else 0)
    above = max((len(lines) for lines in column_lines), default=0) * (TEXT + 4)
    width = left + columns * (cell + GAP) + 2 * MARGIN
    width, head = max(width, 240), _head(title, note, max(width, 240))
    top = MARGIN + head.height + above
    page = Image.new("RGB", (width, top + len(rows) * (cell + GAP) + MARGIN), PAPER)
    page.paste(head, (0, MARGIN))
    draw = ImageDraw.Draw(page)
    for j, lines in enumerate(column_lines):
        x = MARGIN + left + j * (cell + GAP)
        y = top - len(lines) * (TEXT + 4)  # names stand on the images, however many lines they take
        for k, line in enumerate(lines):
            draw.text((x + (cell - _width(line, font)) / 2, y + k * (TEXT + 4)), line, INK, font)
    for i, row in enumerate(rows):
        y = top + i * (cell + GAP)
        if i < len(row_lines):
            start = y + (cell - len(row_lines[i]) * (TEXT + 4)) / 2
            for k, line in enumerate(row_lines[i]):
                draw.text((MARGIN, start + k * (TEXT + 4)), line, INK, font)
        for j in range(columns):
            x = MARGIN + left + j * (cell + GAP)
            image = row[j] if j < len(row) else None
            if image is None:
                draw.rectangle((x, y, x + cell - 1, y + cell - 1), EMPTY)
                continue
            small = _fit(image, cell)
            page.paste(small, (x + (cell - small.width) // 2, y + (cell - small.height) // 2))
    return page


def mosaic(images: Sequence[Array], columns: int) -> Array:
    """Images of one size (uint8 `H W 3` each) as one, in reading order with white lines between: a cell for `sheet`.

    Raises:
        ValueError: no image, or images of several sizes.
    """
    if len({image.shape for image in images}) != 1:
        raise ValueError(f"a mosaic is of images of one size, got {sorted({image.shape for image in images})}")
    height, width = images[0].shape[:2]
    gap = max(1, round(GAP * width / 96))
    rows = -(-len(images) // columns)
    page = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), PAPER, np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        page[y : y + height, x : x + width] = image
    return page


def strip(
    images: Sequence[Array], names: Sequence[str] = (), title: str = "", note: str = "", cell: int = 96
) -> Image.Image:
    """One row of images: a walk between two styles."""
    return sheet([list(images)], (), names, title, note, cell)


def style_map(
    points: Array,
    thumbnails: Sequence[Array],
    title: str = "",
    note: str = "",
    side: int = 800,
    thumb: int = 40,
    groups: Sequence[str] | None = None,
) -> Image.Image:
    """Thumbnails at their places in the plane. `points`: `N 2`, any scale (the axes share one scale, y upwards);
    `groups`: one name each; equal names get a frame of one colour and a line in the legend.

    Raises:
        ValueError: counts that disagree, a point that is not finite, or no point at all.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0 or len(points) != len(thumbnails):
        raise ValueError(f"points N 2 and N thumbnails wanted, got {points.shape} and {len(thumbnails)}")
    if groups is not None and len(groups) != len(points):
        raise ValueError(f"{len(groups)} group names for {len(points)} points")
    if not np.isfinite(points).all():
        raise ValueError("a point of the map is NaN or infinite")
    names = sorted(set(groups)) if groups is not None else []
    colours = {name: _colour(i, len(names)) for i, name in enumerate(names)}
    head = _head(title, note, side)
    legend = _legend(names, colours, side)
    top = MARGIN + head.height + legend.height
    page = Image.new("RGB", (side, top + side), PAPER)
    page.paste(head, (0, MARGIN))
    page.paste(legend, (0, MARGIN + head.height))
    draw = ImageDraw.Draw(page)
    low, high = points.min(0), points.max(0)
    extent = float((high - low).max()) or 1.0  # all points equal: one pile in the middle
    room = side - thumb - 2 * MARGIN - 4
    places = (points - (low + high) / 2) / extent * room + side / 2
    for i, image in enumerate(thumbnails):
        small = _fit(image, thumb)
        x, y = round(places[i, 0] - small.width / 2), round(top + side - places[i, 1] - small.height / 2)
        if groups is not None:
            draw.rectangle((x - 2, y - 2, x + small.width + 1, y + small.height + 1), colours[groups[i]])
        page.paste(small, (x, y))
    return page


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _width(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return math.ceil(font.getlength(text))


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Lines no wider than `width`, broken at spaces, a too long word in its middle."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            while _width(word, font) > width:
                cut = max(k for k in range(1, len(word) + 1) if k == 1 or _width(word[:k], font) <= width)
                if line:
                    lines.append(line)
                    line = ""
                lines.append(word[:cut])
                word = word[cut:]
            joined = f"{line} {word}".strip()
            if _width(joined, font) > width:
                lines.append(line)
                line = word
            else:
                line = joined
        lines.append(line)
    return lines


def _head(title: str, note: str, width: int) -> Image.Image:
    """Title and note line; a note that names random weights is loud."""
    big, small, room = _font(TITLE), _font(TEXT), width - 2 * MARGIN
    titles = _wrap(title, big, room) if title else []
    notes = _wrap(note, small, room) if note else []
    height = len(titles) * (TITLE + 5) + len(notes) * (TEXT + 5) + (4 if titles or notes else 0)
    page = Image.new("RGB", (width, height), PAPER)
    draw, y = ImageDraw.Draw(page), 0
    for line in titles:
        draw.text((MARGIN, y), line, INK, big)
        y += TITLE + 5
    loud = "random" in note.lower()
    if loud:
        draw.rectangle((0, y, width, height), LOUD)
    for line in notes:
        draw.text((MARGIN, y), line, PAPER if loud else INK, small)
        y += TEXT + 5
    return page


def _legend(names: Sequence[str], colours: dict[str, tuple[int, int, int]], width: int) -> Image.Image:
    font, places, x, y = _font(TEXT), [], MARGIN, 0
    for name in names:
        step = _width(name, font) + TEXT + 14
        if x + step > width - MARGIN and x > MARGIN:
            x, y = MARGIN, y + TEXT + 6
        places.append((name, x, y))
        x += step
    page = Image.new("RGB", (width, y + TEXT + 8 if names else 0), PAPER)
    draw = ImageDraw.Draw(page)
    for name, x, y in places:
        draw.rectangle((x, y + 2, x + TEXT - 2, y + TEXT), colours[name])
        draw.text((x + TEXT + 3, y), name, INK, font)
    return page


def _colour(i: int, count: int) -> tuple[int, int, int]:
    """Evenly spaced hues at one lightness."""
    angle = 2 * math.pi * i / max(count, 1)
    red, green, blue = (round(130 + 110 * math.cos(angle - shift)) for shift in (0.0, 2.1, 4.2))
    return red, green, blue


def _fit(image: Array, cell: int) -> Image.Image:
    """The image as large as fits `cell` x `cell`, its aspect kept; small images are enlarged without smoothing."""
    if image.ndim == 2 and image.dtype.kind in "iu":
        image = coloured(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"a picture cell is uint8 H W 3, got {image.dtype} {image.shape}")
    scale = cell / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    way = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BICUBIC
    return Image.fromarray(image).resize(size, way)
