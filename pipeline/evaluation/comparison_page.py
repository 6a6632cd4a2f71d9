"""What a comparison looks like: a sheet, a plot of quality against diversity, and one page that holds everything."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from models.abilities import DrawsSamples
from pipeline.artifacts import storage
from pipeline.data import decode
from pipeline.data.shards import DataSet
from pipeline.evaluation.comparison import COLUMNS, COSTS, Column, Result, Summary, summary, summary_table, table
from pipeline.runs.sampler import Trained, rows_of_data, sample
from pipeline.tracking import sheets

SAMPLES, ACROSS = 4, 2
"""Samples of each family on the sheet, for one input; side by side."""
AXES = {"precision": "precision", "best_perceptual": "distance of the best sample to the truth"}
"""Columns that stand for quality -> their axis' names. Up is better."""
STYLE = """
body { font: 15px/1.5 sans-serif; margin: 2em auto; max-width: 1400px; padding: 0 1em; color: #222 }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: 13px }
th, td { border: 1px solid #ccc; padding: .3em .6em; text-align: right; vertical-align: top }
th:first-child, td:first-child { text-align: left }
td.none { color: #999; text-align: center } td.best { background: #e6f4e6 } small { color: #666; display: block }
img { max-width: 100%; image-rendering: pixelated } code { background: #f3f3f3; padding: .1em .3em }
.loud { background: #be0000; color: #fff; padding: .4em .8em }
"""


@dataclass(frozen=True)
class Facts:
    """What the page says beside the figures."""

    title: str
    command: str
    notes: Sequence[str]
    """A line each."""
    loud: str = ""
    """What must not be overlooked."""


def files(
    facts: Facts,
    results: Sequence[Result],
    runs: Mapping[str, tuple[Trained, DataSet]],
    inputs: int,
    seed: int,
) -> dict[str, bytes]:
    """Name -> content of a comparison's files: the page, its tables, its pictures.

    Args:
        runs: name -> a run of it, and the data set that it reads.
        inputs: rows of the sheet; 0: no sheet.
    """
    made = summary(results)
    pictures = {"Quality against diversity": plot(results, made)}
    run, data = next(iter(runs.values()))
    if keys := [data.keys[i] for i in run.images(data).rows_for_sheets(inputs, run.frame)] if inputs else []:
        pictures["Samples"] = decode.to_png(np.asarray(sheet(runs, keys, seed, facts.loud)))
    return {
        "index.html": page(facts, results, made, pictures).encode(),
        "figures.csv": table(results, COLUMNS).encode(),
        "costs.csv": table(results, COSTS).encode(),
        "summary.csv": summary_table(made).encode(),
        "comparison.json": storage.json_bytes([asdict(one) for one in results]),
        **{f"{title.split()[0].lower()}.png": data for title, data in pictures.items()},
    }


def sheet(runs: Mapping[str, tuple[Trained, DataSet]], keys: Sequence[str], seed: int, note: str) -> Image.Image:
    """The same inputs in rows, families in columns, `SAMPLES` of each.

    Args:
        runs: name -> a run, and the data set that it reads; the first one's inputs are shown.
        keys: of the inputs.
    """
    rows: list[list[np.ndarray | None]] = [[] for _ in keys]
    for run, data in runs.values():
        place = {key: i for i, key in enumerate(data.keys)}
        given = rows_of_data(run, data, [place[key] for key in keys])
        if not rows[0]:
            images = run.images(data)
            for row, one, key in zip(rows, given, keys, strict=True):
                row += [*one.shown[:1], images.cut(place[key], "target", run.frame)]
        for row, one in zip(rows, given, strict=True):
            if isinstance(run.family, DrawsSamples):
                drawn = sample(run.family, one.given, one.name, SAMPLES, run.family.samplers[0], seed)
                made = sheets.mosaic(drawn, ACROSS)
                edge = max(1, made.shape[1] // 40)
                row.append(np.pad(made, ((0, 0), (edge, edge), (0, 0)), constant_values=255))
            else:
                row.append(None)
    side = next(cell.shape[1] for cell in reversed(rows[0]) if cell is not None)
    cell = side * max(1, round(200 / side))  # a whole multiple: no pixel is drawn wider than another
    columns = [*["input", "truth"][-(len(rows[0]) - len(runs)) :], *runs]
    return sheets.sheet(rows, list(keys), columns, f"The same inputs, {SAMPLES} samples of each family", note, cell)


def plot(results: Sequence[Result], made: Mapping[str, Mapping[str, Summary]]) -> bytes:
    """PNG: for each axis of quality a panel, diversity across; a point a seed, a larger one for their mean."""
    figure = Figure(figsize=(13, 5.2), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(AXES))
    for panel, (quality, title) in zip(panels, AXES.items(), strict=True):
        for number, (name, figures) in enumerate(made.items()):
            if not {quality, "diversity_perceptual"} <= figures.keys():
                continue
            colour = f"C{number % 10}"
            points = [
                (one.figures["diversity_perceptual"], one.figures[quality])
                for one in results
                if one.name == name and {quality, "diversity_perceptual"} <= one.figures.keys()
            ]
            panel.scatter(*zip(*points, strict=True), s=22, color=colour, alpha=0.5)
            mean = figures["diversity_perceptual"].mean, figures[quality].mean
            panel.scatter(*mean, s=90, color=colour, marker="o^sDvPX*"[number % 8], label=name)
        panel.set_xlabel("diversity: perceptual distance of two samples of one input")
        panel.set_ylabel(f"{title} (up is better)")
        if next(column for column in COLUMNS if column.name == quality).better == "less":
            panel.invert_yaxis()
        panel.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")
    sink = io.BytesIO()
    figure.savefig(sink, format="png", metadata={"Software": None})
    return sink.getvalue()


def page(
    facts: Facts,
    results: Sequence[Result],
    made: Mapping[str, Mapping[str, Summary]],
    pictures: Mapping[str, bytes],
) -> str:
    """HTML that needs no other file: pictures (title -> PNG) are within it, and no script is."""
    first = next(iter(made))
    parts = [
        f"<h1>{html.escape(facts.title)}</h1>",
        f'<p class="loud">{html.escape(facts.loud)}</p>' if facts.loud else "",
        *(f"<p>{html.escape(note)}</p>" for note in facts.notes),
        f"<p>Made by <code>{html.escape(facts.command)}</code></p>",
        "<h2>Budgets and costs</h2>",
        _means(results, made, COSTS),
        "<h2>Figures</h2>",
        f"<p>Mean over the seeds ± spread (largest - smallest). Below it the mean difference to {html.escape(first)} "
        "with the same seed, ± its spread. The best mean of a column is green. A dash: not measured; the reasons are "
        "below.</p>",
        _means(results, made, COLUMNS),
        _reasons(results),
    ]
    for title, data in pictures.items():
        source = base64.b64encode(data).decode()
        alt = html.escape(title)
        parts.append(f'<h2>{alt}</h2><img alt="{alt}" src="data:image/png;base64,{source}">')
    parts += ["<h2>Every run</h2>", _every(results)]
    body = "\n".join(filter(None, parts))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(facts.title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def number(value: float) -> str:
    """Four digits; whole numbers in full."""
    if value == int(value) and abs(value) >= 100:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _means(results: Sequence[Result], made: Mapping[str, Mapping[str, Summary]], columns: Sequence[Column]) -> str:
    shown = [c for c in columns if any(c.name in figures for figures in made.values())]
    if not shown:
        return "<p>None could be measured.</p>"
    first = next(iter(made))
    lines = []
    for name, figures in made.items():
        cells = []
        for column in shown:
            if column.name not in figures:
                why = next(one.reasons.get(column.name, "") for one in results if one.name == name)
                cells.append(f'<td class="none" title="{html.escape(why)}">-</td>')
                continue
            s = figures[column.name]
            exact = s.seeds == 1 or (column in COSTS and not s.spread)
            text = number(s.mean) if exact else f"{number(s.mean)} ± {number(s.spread)}"
            if s.seeds < (runs := sum(one.name == name for one in results)):
                text += f"<small>of {s.seeds} of {runs} seeds</small>"
            if name != first and column in COLUMNS and not math.isnan(s.difference):
                spread = f" ± {number(s.difference_spread)}" if s.seeds > 1 else ""
                text += f"<small>{'+' if s.difference >= 0 else ''}{number(s.difference)}{spread}</small>"
            marked = ' class="best"' if column in COLUMNS and name in _best(column, made) else ""
            cells.append(f"<td{marked}>{text}</td>")
        lines.append(f"<tr><td>{html.escape(name)}</td>{''.join(cells)}</tr>")
    heads = "".join(f"<th>{html.escape(c.title)}</th>" for c in shown)
    return f"<table><tr><th>family</th>{heads}</tr>\n" + "\n".join(lines) + "\n</table>"


def _best(column: Column, made: Mapping[str, Mapping[str, Summary]]) -> set[str]:
    means = {name: figures[column.name].mean for name, figures in made.items() if column.name in figures}
    if not column.better or len(set(means.values())) < 2:
        return set()
    wanted = max(means.values()) if column.better == "more" else min(means.values())
    return {name for name, mean in means.items() if mean == wanted}


def _reasons(results: Sequence[Result]) -> str:
    """Each reason with the families and the figures that it holds for."""
    found: dict[str, dict[str, list[str]]] = {}
    for one in results:
        for column in (*COLUMNS, *COSTS):
            if column.name in one.reasons:
                families = found.setdefault(one.reasons[column.name], {}).setdefault(column.title, [])
                families += [one.name] if one.name not in families else []
    lines = []
    for why, columns in found.items():
        alike: dict[tuple[str, ...], list[str]] = {}
        for title, families in columns.items():
            alike.setdefault(tuple(families), []).append(title)
        where = "".join(
            f"<small>{html.escape(', '.join(families))}: {html.escape('; '.join(titles))}</small>"
            for families, titles in alike.items()
        )
        lines.append(f"<li>{html.escape(why)}{where}</li>")
    return f"<h3>Not measured</h3><ul>{''.join(lines)}</ul>" if lines else ""


def _every(results: Sequence[Result]) -> str:
    shown = [c for c in (*COLUMNS, *COSTS) if any(c.name in one.figures for one in results)]
    heads = "".join(f"<th>{html.escape(c.title)}</th>" for c in shown)
    lines = []
    for one in results:
        cells = "".join(
            f"<td>{number(one.figures[c.name])}</td>" if c.name in one.figures else '<td class="none">-</td>'
            for c in shown
        )
        lines.append(f"<tr><td>{html.escape(one.name)}</td><td>{one.seed}</td>{cells}</tr>")
    return f"<table><tr><th>family</th><th>seed</th>{heads}</tr>\n" + "\n".join(lines) + "\n</table>"
