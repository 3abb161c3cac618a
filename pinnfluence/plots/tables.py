"""Tables as CSV files and as figures: indicators, errors, and any other rows."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from pinnfluence.plots.style import STYLE, styled
from pinnfluence.problem.labels import PLAIN, Labels
from pinnfluence.reference.comparison import ErrorRow
from pinnfluence.scores.indicators import INDICATORS, IndicatorRow
from pinnfluence.storage.files import write_bytes

PRINTED = {
    "gradient_norm": "norm of the loss gradient",
    "median_point_gradient_norm": "median norm of a point's loss gradient",
    "ratio": "norm of the loss gradient / median of a point's",
    "most_negative_eigenvalue": "smallest eigenvalue that was seen",
    "largest_eigenvalue": "largest eigenvalue",
}
"""Rows of a report whose key does not say what they are."""

AVERAGES = ("points", "area")

SPACE = 0.16
"""Inches between two columns of a table."""


def write_csv(rows: Sequence[Any], path: str | Path) -> Path:
    """Write rows, dataclasses of one type, as CSV with a header; numbers in full precision."""
    path = Path(path)
    if not rows:
        raise ValueError(f"no rows to write to {path}")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(rows[0]))
    writer.writerows(dataclasses.astuple(row) for row in rows)
    write_bytes(path, text.getvalue().encode())
    return path


@styled
def table_figure(
    header: Sequence[str],
    body: Sequence[Sequence[str]],
    groups: Sequence[tuple[str, int]] = (),
    note: str = "",
) -> Figure:
    """A table with rules above, below and under its header, the first column flush left.

    Args:
        header: ``[n_columns]`` column names.
        body: cells ``[n_rows][n_columns]``.
        groups: names over the header with the number of columns that each spans.
        note: printed under the table, in lines as long as the table is wide.
    """
    columns = zip(header, *body, strict=True)
    widths = [max(map(_printed_width, column)) + SPACE for column in columns]
    edges = [sum(widths[:i]) for i in range(len(widths) + 1)]
    note = textwrap.fill(note, int(edges[-1] / 0.052))
    n_head = 1 + bool(groups)
    n_lines = n_head + len(body) + (note.count("\n") + 1 if note else 0)
    figure = Figure(figsize=(edges[-1] + 0.2, 0.17 * n_lines + 0.17))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(-0.1, edges[-1] + 0.1), ylim=(n_lines + 0.5, -0.5))
    axis.axis("off")
    _draw_groups(axis, groups, edges)
    _draw_cells(axis, [header, *body], edges, n_head - 1)
    for line, width in ((0, 1.0), (n_head, 0.6), (n_head + len(body), 1.0)):
        axis.plot([0, edges[-1]], [line, line], color="black", linewidth=width)
    axis.text(0, n_head + len(body) + 0.4, note, va="top", size=6.5)
    return figure


def _draw_groups(axis: Axes, groups: Sequence[tuple[str, int]], edges: Sequence[float]) -> None:
    start = 0
    for name, span in groups:
        left, right = edges[start] + 0.08, edges[start + span] - 0.08
        axis.text((left + right) / 2, 0.5, name, ha="center", va="center", weight="bold")
        if name:
            axis.plot([left, right], [1, 1], color="black", linewidth=0.5)
        start += span


def _draw_cells(
    axis: Axes, lines: Sequence[Sequence[str]], edges: Sequence[float], first: int
) -> None:
    for line, cells in enumerate(lines, start=first):
        axis.text(edges[0], line + 0.5, cells[0], ha="left", va="center")
        for cell, left, right in zip(cells[1:], edges[1:-1], edges[2:], strict=True):
            axis.text((left + right) / 2, line + 0.5, cell, ha="center", va="center")


def indicator_figure(
    rows: Sequence[IndicatorRow], indicator: str, labels: Labels = PLAIN
) -> Figure:
    """The paper's table of one indicator: quantities down, models across, two decimals.

    Each cell gives the average over test points (the paper's) or over the area, and in brackets
    what uniform influence would give with the same average.
    """
    cells = {
        (row.model, row.quantity): (
            f"{row.mean:.2f} ({row.uniform:.2f})",
            f"{row.area_weighted:.2f} ({row.uniform_area_weighted:.2f})",
        )
        for row in rows
        if row.indicator == indicator
    }
    note = (
        f"{indicator.capitalize()} indicator, the share of influence from "
        f"{INDICATORS[indicator].about}: mean over test points and over the area; "
        "in brackets its value for uniform influence."
    )
    return _models_across(cells, labels, note)


def error_table_figure(rows: Sequence[ErrorRow], labels: Labels = PLAIN) -> Figure:
    """Relative L2 errors: fields down, models across, over test points and over the area."""
    cells = {
        (row.model, row.quantity): (f"{row.mean:.3g}", f"{row.area_weighted:.3g}") for row in rows
    }
    note = "Relative L2 error against the reference solution, over test points and over the area."
    return _models_across(cells, labels, note)


def _models_across(
    cells: Mapping[tuple[str, str], tuple[str, str]], labels: Labels, note: str
) -> Figure:
    """Quantities down, models across, from both averages by model and quantity."""
    models, quantities = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    body = [
        [labels.symbol(quantity), *(cell for model in models for cell in cells[model, quantity])]
        for quantity in quantities
    ]
    groups = [("", 1)] + [(model, 2) for model in models]
    return table_figure(["quantity", *AVERAGES * len(models)], body, groups, note)


def report_figure(reports: Mapping[str, Mapping[str, Any]], note: str = "") -> Figure:
    """Numbers by name, one column for each model; groups come last, as ``group: name``."""
    columns = {model: dict(_flat(report)) for model, report in reports.items()}
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    body = [[name, *(column.get(name, "") for column in columns.values())] for name in names]
    return table_figure(["", *columns], body, note=note)


def _flat(report: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, str]]:
    numbers_first = sorted(report.items(), key=lambda item: isinstance(item[1], Mapping))
    for key, value in numbers_first:
        name = f"{group}: {key}" if group else PRINTED.get(key, key)
        name = name.replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            yield name, f"{value:.3g}" if isinstance(value, float) else str(value)


@functools.lru_cache(maxsize=4096)
def _printed_width(cell: str) -> float:
    """In inches, at the size of the text in tables."""
    if not cell.strip():
        return 0.0
    return float(TextPath((0, 0), cell, size=STYLE["font.size"]).get_extents().width) / 72
