"""The page of figures of the sweep: directions, separation, estimated errors, agreement."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sweep import RECIPES, VARIANTS
from sweep_report import PUBLISHED, Tables, coordinate, separation

from pinnfluence.plots.style import styled

COLOURS = {"good": "#0072b2", "bad": "#d55e00"}
METHODS = {"paper": "#cc79a7", "gauss-newton": "#009e73", "proximal response": "0.6"}


@styled
def page(tables: Tables) -> Figure:
    """All four parts on one page."""
    figure = Figure(figsize=(9.5, 9.5), layout="constrained")
    axes = figure.subplot_mosaic([[*RECIPES], ["areas", "areas"], ["errors", "agreement"]])
    for recipe in RECIPES:
        draw_directions(axes[recipe], tables, recipe)
    draw_separation(axes["areas"], tables)
    draw_errors(axes["errors"], tables)
    draw_agreement(axes["agreement"], tables)
    return figure


def draw_directions(axis: Axes, tables: Tables, recipe: str) -> None:
    """eta of each network; in the panel of recipe ``paper`` the published ones as open marks."""
    for place, problem in enumerate(tables.problems):
        key = ("direction", coordinate(problem))
        for number, variant in enumerate(VARIANTS):
            x = place + 0.3 * number - 0.15
            values = list(tables.of_indicator(key, recipe, problem, variant).values())
            style: dict[str, Any] = {"color": COLOURS[variant], "markersize": 4, "alpha": 0.7}
            axis.plot([x] * len(values), values, "o", **style)
            base = tables.of_indicator(key, recipe, problem, variant, "uniform")
            if base:
                height = np.mean(list(base.values()))
                axis.plot([x - 0.12, x + 0.12], [height, height], "k-", linewidth=1)
            if recipe == "paper" and problem in PUBLISHED:
                mean, deviation = in_numbers(PUBLISHED[problem][1:][number])
                bar: dict[str, Any] = {
                    "color": COLOURS[variant],
                    "markerfacecolor": "none",
                    "capsize": 2,
                }
                axis.errorbar(x + 0.08, mean, deviation, fmt="s", markersize=4, **bar)
    names = [
        f"{problem}\n({coordinate(problem)})".replace("_", "\n", 1) for problem in tables.problems
    ]
    axis.set_xticks(range(len(names)), names, fontsize=5)
    axis.set_ylim(0, 1)
    note = "; squares: published" if recipe == "paper" else ""
    axis.set_title(f"direction $\\eta$, recipe {recipe} (bars: uniform{note})")
    for variant, colour in COLOURS.items():
        axis.plot([], [], "o", color=colour, markersize=4, label=variant)
    axis.legend(fontsize=6, loc="upper left")


def in_numbers(text: str) -> tuple[float, float]:
    """Mean and standard deviation of ``0.33(2)``, whose bracket has units of the last digit."""
    found = re.fullmatch(r"(\d+\.(\d+))\((\d+)\)", text)
    assert found is not None
    mean, decimals, last = found.groups()
    return float(mean), int(last) * 10.0 ** -len(decimals)


def draw_separation(axis: Axes, tables: Tables) -> None:
    """AUC of each number on each problem."""
    found, compared = separation(tables), tables.compared
    areas = np.array([[by[p] for p in compared] for by in found.values()])
    axis.imshow(areas, cmap="PuOr", vmin=0, vmax=1, aspect="auto")
    for (row, column), area in np.ndenumerate(areas):
        if np.isfinite(area):
            dark = abs(area - 0.5) > 0.25
            where: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6}
            axis.text(column, row, f"{area:.2f}", color="white" if dark else "black", **where)
    axis.set_xticks(range(len(compared)), compared, fontsize=6)
    axis.set_yticks(range(len(found)), list(found), fontsize=6)
    axis.set_title("probability that the number is larger for a bad network than for a good one")


def draw_errors(axis: Axes, tables: Tables) -> None:
    """The error that the diagnosis estimates, without a reference, against the true one."""
    marks = dict(zip(tables.problems, "osD^v<>P", strict=False))
    for problem in tables.problems:
        for variant, colour in COLOURS.items():
            true, guess = (
                tables.of_networks(column, problem, variant) for column in ("error", "estimated")
            )
            label = problem if variant == "good" else None
            style: dict[str, Any] = {"color": colour, "markersize": 4, "alpha": 0.7, "label": label}
            axis.plot([*true.values()], [*guess.values()], marks[problem], **style)
    axis.axline((1, 1), slope=1, color="0.5", linewidth=0.6)
    axis.set(xscale="log", yscale="log", xlabel="relative L2 error of u", ylabel="estimated")
    axis.legend(fontsize=5)
    axis.set_title("estimated error, no reference needed")


def draw_agreement(axis: Axes, tables: Tables) -> None:
    """Spearman's correlation of scores with retraining, with 95 % intervals."""
    rows = [row for row in tables.agreement if row["recipe"] in METHODS]
    names = list(dict.fromkeys(f"{row['problem']}, {row['variant']}" for row in rows))
    for row in rows:
        y = names.index(f"{row['problem']}, {row['variant']}") + 0.2 * (
            list(METHODS).index(row["recipe"]) - 1
        )
        value, low, high = (float(row[key]) for key in ("spearman", "low", "high"))
        bar: dict[str, Any] = {"color": METHODS[row["recipe"]], "markersize": 4, "linewidth": 0.8}
        axis.errorbar(value, y, xerr=[[value - low], [high - value]], fmt="o", **bar)
    for method, colour in METHODS.items():
        axis.plot([], [], "o", color=colour, markersize=4, label=method)
    axis.set_yticks(range(len(names)), names, fontsize=6)
    axis.invert_yaxis()
    axis.axvline(0.9, color="0.5", linewidth=0.6, linestyle=":")
    axis.legend(fontsize=6)
    axis.set_title("agreement with retraining: Spearman")
