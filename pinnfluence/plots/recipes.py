"""Indicators of several models under several recipes, side by side: a picture and a table."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pinnfluence.plots.style import PAGE, styled
from pinnfluence.plots.tables import table_figure
from pinnfluence.problem.labels import PLAIN, Labels
from pinnfluence.scores.indicators import INDICATORS, IndicatorRow

APART = 0.3
"""Between the marks of two recipes of one model, in models."""

Rows = dict[tuple[str, str, str], IndicatorRow]
"""Rows of one indicator by quantity, model and recipe."""


@styled
def recipes_figure(rows: Sequence[IndicatorRow], labels: Labels = PLAIN) -> Figure:
    """A row for each indicator, a panel for each quantity, models down, a colour for each recipe.

    Dots are means over test points, bars reach from the lower to the upper quartile, and the black
    line at each model is what uniform influence would give.
    """
    names = [name for name in INDICATORS if any(row.indicator == name for row in rows)]
    _, quantities, models, _ = _arranged(rows, names[0])
    height = 0.5 + len(names) * (0.35 + 0.17 * len(models))
    figure = Figure(figsize=(PAGE, height), layout="constrained")
    axes = figure.subplots(len(names), len(quantities), sharex=True, sharey=True, squeeze=False)
    for line, indicator in zip(axes, names, strict=True):
        _draw_indicator(line, rows, indicator, labels)
    axes[0, 0].set_yticks(range(len(models)), models)
    axes[0, 0].set(xlim=(0, 1), ylim=(len(models) - 0.5, -0.5))
    axes[0, 0].set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    figure.supxlabel("share of the influence; black: with uniform influence", size=7)
    handles, recipes = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, recipes, loc="outside upper right", ncols=len(recipes))
    return figure


def _draw_indicator(
    axes: Sequence[Axes], rows: Sequence[IndicatorRow], indicator: str, labels: Labels
) -> None:
    chosen, quantities, models, recipes = _arranged(rows, indicator)
    for axis, quantity in zip(axes, quantities, strict=True):
        for number, recipe in enumerate(recipes):
            known = [m for m in models if (quantity, m, recipe) in chosen]
            means = [chosen[quantity, model, recipe] for model in known]
            shift = APART * (number - (len(recipes) - 1) / 2)
            _draw_means(axis, [models.index(model) + shift for model in known], means, recipe)
        for place, model in enumerate(models):
            uniform = _uniform(chosen, quantity, model)
            ends = [place - 0.42, place + 0.42]
            axis.plot(2 * [uniform], ends, color="black", linewidth=0.8, linestyle="-")
        axis.set_title(labels.symbol(quantity))
        axis.grid(axis="x")
    axes[0].set_title(f"{indicator}: {labels.symbol(quantities[0])}")


def _draw_means(
    axis: Axes, places: Sequence[float], rows: Sequence[IndicatorRow], recipe: str
) -> None:
    (dots,) = axis.plot([row.mean for row in rows], places, "o", markersize=2.5, label=recipe)
    lower, upper = [row.lower for row in rows], [row.upper for row in rows]
    axis.hlines(places, lower, upper, color=dots.get_color(), linewidth=0.9)


def recipes_table_figure(
    rows: Sequence[IndicatorRow], indicator: str, labels: Labels = PLAIN
) -> Figure:
    """The same as a table: for each quantity a line for each recipe and one for uniform influence.

    Cells are means over test points, in brackets the quartiles.
    """
    chosen, quantities, models, recipes = _arranged(rows, indicator)
    body = []
    for quantity in quantities:
        for recipe in recipes:
            cells = [chosen.get((quantity, model, recipe)) for model in models]
            body.append([labels.symbol(quantity), recipe, *map(_cell, cells)])
        uniform = (f"{_uniform(chosen, quantity, model):.2f}" for model in models)
        body.append(["", "uniform", *uniform])
    note = (
        f"{indicator.capitalize()} indicator, the share of influence from "
        f"{INDICATORS[indicator].about}: mean over test points, and in brackets its quartiles; "
        "uniform is the mean for equal influence of all training points."
    )
    return table_figure(["quantity", "recipe", *models], body, note=note)


def _uniform(chosen: Rows, quantity: str, model: str) -> float:
    """Of the first recipe: they differ where other test points have no influence."""
    return next(row.uniform for key, row in chosen.items() if key[:2] == (quantity, model))


def _cell(row: IndicatorRow | None) -> str:
    return "" if row is None else f"{row.mean:.2f} [{row.lower:.2f}, {row.upper:.2f}]"


def _arranged(
    rows: Sequence[IndicatorRow], indicator: str
) -> tuple[Rows, list[str], list[str], list[str]]:
    """The rows of an indicator by key, and the quantities, models and recipes in their order."""
    chosen = {(r.quantity, r.model, r.recipe): r for r in rows if r.indicator == indicator}
    quantities, models, recipes = (list(dict.fromkeys(key[i] for key in chosen)) for i in range(3))
    return chosen, quantities, models, recipes
