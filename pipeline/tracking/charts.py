"""A chart of measured points beside the curves that they should lie on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

SIDE = 420
LEFT, TOP, BELOW = 56, 40, 44
INK, FAINT = (20, 20, 20), (215, 215, 215)
COLOURS = ((190, 30, 45), (20, 90, 190), (20, 130, 70), (150, 90, 10), (110, 40, 150), (90, 90, 90))

Line = Sequence[tuple[float, float]]


def chart(
    points: Mapping[str, Line],
    curves: Mapping[str, Line],
    across: tuple[float, float],
    up: tuple[float, float],
    title: str,
    axis: str,
) -> Image.Image:
    """Series by name: `points` as dots and `curves` of the same name as lines of one colour. What lies outside of
    `across` (x from, to) and `up` (y from, to) is drawn at the edge.

    Args:
        axis: the x axis's name.
    """
    names = list(dict.fromkeys([*points, *curves]))
    page = Image.new("RGB", (LEFT + SIDE + 190, TOP + SIDE + BELOW), (255, 255, 255))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=13)

    def place(x: float, y: float) -> tuple[float, float]:
        shares = [(v - a) / (b - a) for v, (a, b) in ((x, across), (y, up))]
        right, high = (min(max(share, 0.0), 1.0) for share in shares)
        return LEFT + SIDE * right, TOP + SIDE * (1 - high)

    draw.text((LEFT, 10), title, INK, ImageFont.load_default(size=16))
    for i in range(5):
        x, y = (a + (b - a) * i / 4 for a, b in (across, up))
        draw.line([place(x, up[0]), place(x, up[1])], FAINT)
        draw.line([place(across[0], y), place(across[1], y)], FAINT)
        draw.text((place(x, up[0])[0], TOP + SIDE + 4), f"{x:g}", INK, font, anchor="ma")
        draw.text((LEFT - 6, place(across[0], y)[1]), f"{y:g}", INK, font, anchor="rm")
    draw.text((LEFT + SIDE / 2, TOP + SIDE + 24), axis, INK, font, anchor="ma")
    for number, name in enumerate(names):
        colour = COLOURS[number % len(COLOURS)]
        if name in curves:
            draw.line([place(*p) for p in curves[name]], colour, 2)
        for p in points.get(name, ()):
            x, y = place(*p)
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), colour)
        y = TOP + 10 + 20 * number
        draw.ellipse((LEFT + SIDE + 16, y - 4, LEFT + SIDE + 24, y + 4), colour)
        draw.text((LEFT + SIDE + 32, y), name, INK, font, anchor="lm")
    return page
