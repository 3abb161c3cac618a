"""Indicators of several models under several recipes, side by side: a picture and a table."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pinnfluence.plots.drawing import styled
from pinnfluence.plots.tables import table_figure
from pinnfluence.problem.labels import PLAIN, Labels
from pinnfluence.scores.indicators import INDICATORS, IndicatorRow

APART = 0.22
"""Between the marks of two recipes of one model, in models."""

Rows = dict[tuple[str, str, str], IndicatorRow]
"""Rows of one indicator by quantity, model and recipe."""


@styled
def recipes_figure(rows: Sequence[IndicatorRow], indicator: str, labels: Labels = PLAIN) -> Figure:
    """One indicator: a panel for each quantity, the models along it, a colour for each recipe.

    Dots are means over test points, bars reach from the lower to the upper quartile, and the black
    line at each model is what uniform influence would give.
    """
    chosen, quantities, models, recipes = _arranged(rows, indicator)
    width = 0.9 + len(quantities) * (0.35 + 0.17 * len(models))
    figure = Figure(figsize=(width, 2.4), layout="constrained")
    axes = figure.subplots(1, len(quantities), sharey=True, squeeze=False)[0]
    for axis, quantity in zip(axes, quantities, strict=True):
        for number, recipe in enumerate(recipes):
            known = [m for m in models if (quantity, m, recipe) in chosen]
            means = [chosen[quantity, model, recipe] for model in known]
            shift = APART * (number - (len(recipes) - 1) / 2)
            _draw_means(axis, [models.index(model) + shift for model in known], means, recipe)
        for place, model in enumerate(models):
            uniform = _uniform(chosen, quantity, model)
            axis.plot([place - 0.4, place + 0.4], 2 * [uniform], color="black", linewidth=0.8)
        axis.set_title(labels.symbol(quantity))
        axis.set_xticks(range(len(models)), models, rotation=90)
        axis.set_ylim(0, 1)
        axis.grid(axis="y", linewidth=0.3, alpha=0.5)
    axes[0].set_ylabel(f"{indicator} indicator")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", frameon=False)
    return figure


def _draw_means(
    axis: Axes, places: Sequence[float], rows: Sequence[IndicatorRow], recipe: str
) -> None:
    (dots,) = axis.plot(places, [row.mean for row in rows], "o", markersize=3, label=recipe)
    lower, upper = [row.lower for row in rows], [row.upper for row in rows]
    axis.vlines(places, lower, upper, color=dots.get_color(), linewidth=0.9)


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
