"""Figures of scores against retraining: scatter, damping and rank, proximal weight, single points.

They draw what ``pinnfluence.validation.results`` reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pinnfluence.plots.drawing import add_colour_bar, apart
from pinnfluence.plots.style import MAGNITUDE_MAP, PAGE, PALETTE, styled
from pinnfluence.problem.labels import PLAIN, Labels
from pinnfluence.validation.results import MATCHED, SPECTRUM, GroupFigures, Results, Row

METHODS = ("paper", "gauss-newton", MATCHED)
"""The recipes, and what is right by construction if all but the damping is."""

MOST_PAIRS = 20_000
"""Pairs of a removed group and a test point that one panel shows, drawn at random."""

COLOURS = PALETTE[:6]
"""Of the kinds of place; the last serves all further ones."""


def drawn_methods(results: Results, methods: Sequence[str] = METHODS) -> list[str]:
    """Those of the methods that an experiment has: without proximal term there is no response."""
    return [method for method in methods if method in results.predicted]


@styled
def scatter_figure(results: Results, name: str = "", labels: Labels = PLAIN) -> Figure:
    """Predicted against actual changes: a row for each quantity, a column for each method.

    Axes are linear up to the median of the actual changes and logarithmic beyond, since changes of
    all sizes count in a rank correlation. The line is that of equal changes. Colours say which loss
    terms act on the removed point.
    """
    methods = drawn_methods(results)
    n_rows, n_columns = len(results.quantities), len(methods)
    figure = Figure(figsize=(PAGE, 2.1 * n_rows + 0.4), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    for number, quantity in enumerate(results.quantities):
        for axis, method in zip(axes[number], methods, strict=True):
            _draw_pairs(axis, results, method, number)
            agreement = results.row(method, quantity).agreement
            axis.set_title(f"{method}: {agreement.spearman.value:.3f}")
            axis.set_xlabel(f"predicted change of {labels.with_unit(quantity)}")
        axes[number, 0].set_ylabel(f"actual change of {labels.with_unit(quantity)}")
    handles, kinds = axes[0, -1].get_legend_handles_labels()
    figure.legend(handles, kinds, loc="outside lower left", ncols=2, markerscale=4)
    figure.suptitle(f"{name}  Spearman's correlation over all pairs", x=0.01, ha="left")
    return figure


def _draw_pairs(axis: Axes, results: Results, method: str, number: int) -> None:
    good = np.flatnonzero(results.converged)
    p, a = (x[good, :, number] for x in (results.predicted[method], results.changes))
    typical = max(float(np.median(np.abs(a))), float(np.finfo(np.float32).tiny))
    most = 1.5 * max(float(np.abs(a).max()), float(np.percentile(np.abs(p), 99)), typical)
    chosen = np.random.default_rng(0).permutation(p.size)[:MOST_PAIRS]
    group = chosen // p.shape[1]
    kinds = np.array(results.kinds())[good]
    for kind, colour in _kinds(kinds):
        these = chosen[kinds[group] == kind]
        axis.plot(
            *(p.flat[these], a.flat[these], "."),
            color=colour, markersize=2, markeredgewidth=0, label=kind, rasterized=True,
        )  # fmt: skip
    axis.plot([-most, most], [-most, most], color="black", linewidth=0.6)
    for set_scale, set_limits in (
        (axis.set_xscale, axis.set_xlim),
        (axis.set_yscale, axis.set_ylim),
    ):
        set_scale("symlog", linthresh=typical)
        set_limits(-most, most)
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_ticks([-most / 1.5, 0, most / 1.5])
        ticks.set_major_formatter(lambda value, _: f"{value:.0e}" if value else "0")


def _kinds(kinds: np.ndarray) -> Iterator[tuple[str, str]]:
    """Each kind of place with its colour, in the order of their names."""
    for number, kind in enumerate(sorted(set(kinds))):
        yield str(kind), COLOURS[min(number, len(COLOURS) - 1)]


@styled
def spectrum_figure(results: Results, quantity: str, name: str = "") -> Figure:
    """Spearman's correlation against damping, at full rank, and against rank.

    A line for each matrix and weighting; against rank at the damping of the recipe with that
    weighting. Stars mark the two recipes as they are.
    """
    rows = [row for row in results.rows if row.method == SPECTRUM and row.quantity == quantity]
    recipes = [results.row(method, quantity) for method in drawn_methods(results, METHODS[:2])]
    figure = Figure(figsize=(PAGE, 2.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    kinds = list(dict.fromkeys((row.curvature, row.weighting) for row in rows))
    n_params = results.facts["n_params"]
    for (curvature, weighting), colour in zip(kinds, COLOURS, strict=False):
        of_kind = [row for row in rows if (row.curvature, row.weighting) == (curvature, weighting)]
        label = f"{curvature}, {weighting}"
        full = [row for row in of_kind if row.rank == "full"]
        _draw_line(left, [row.damping for row in full], full, colour, label)
        damping = _nearest_damping(of_kind, [r for r in recipes if r.weighting == weighting])
        by_rank = [row for row in of_kind if row.damping == damping]
        _draw_line(right, [_rank(row, n_params) for row in by_rank], by_rank, colour, label)
    for row in recipes:
        for axis, x in ((left, row.damping), (right, _rank(row, n_params))):
            style = {"color": "black", "markersize": 7, "markeredgecolor": "white", "zorder": 5}
            axis.plot([x], [row.agreement.spearman.value], "*", **style)
            place = (x, row.agreement.spearman.value)
            axis.annotate(row.method, place, (3, -9), textcoords="offset points", size=6)
    left.set(xlabel="damping, full rank", ylabel=f"Spearman, {quantity}", xscale="log")
    right.set(xlabel="rank, damping of the recipe with these weights", xscale="log")
    right.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    for axis in (left, right):
        axis.margins(y=0.15)  # room for the names below the stars
        axis.grid()
    left.set_title(name, loc="left", weight="bold")
    return figure


def _nearest_damping(rows: Sequence[Row], recipes: Sequence[Row]) -> float:
    """Of the rows' dampings the one nearest to the recipe's, in decades."""
    wanted = recipes[0].damping if recipes else rows[0].damping
    return min({row.damping for row in rows}, key=lambda d: abs(np.log(d) - np.log(wanted)))


def _rank(row: Row, n_params: int) -> int:
    return n_params if row.rank == "full" else int(row.rank)


@styled
def proximal_figure(
    experiments: Sequence[Results], quantity: str, headline: float, name: str = ""
) -> Figure:
    """Spearman's correlation against the proximal weight, with intervals; the headline's marked.

    A weight of 0 stands at a tenth of the smallest other one.
    """
    weights = [results.facts["settings"]["proximal"] for results in experiments]
    least = min((weight for weight in weights if weight > 0), default=1.0)
    figure = Figure(figsize=(PAGE, 2.4), layout="constrained")
    axis = figure.subplots()
    for method, colour in zip(METHODS, COLOURS, strict=False):
        known = [
            (weight or least / 10, results.row(method, quantity))
            for weight, results in zip(weights, experiments, strict=True)
            if method in results.predicted
        ]
        _draw_line(axis, [x for x, _ in known], [row for _, row in known], colour, method)
    axis.axvline(headline or least / 10, color="black", linewidth=0.6, linestyle="--")
    label = r"proximal weight $\mu$" + ("; the leftmost is 0" if 0 in weights else "")
    axis.set(xscale="log", xlabel=label, ylabel=f"Spearman, {quantity}")
    axis.grid()
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    axis.set_title(name, loc="left", weight="bold")
    return figure


def _draw_line(
    axis: Axes, places: Sequence[float], rows: Sequence[Row], colour: str, label: str
) -> None:
    """Spearman's correlation of the rows, with intervals, from left to right."""
    order = np.argsort(places, kind="stable")
    intervals = [rows[i].agreement.spearman for i in order]
    values = np.array([figure.value for figure in intervals])
    ends = np.array([[figure.low, figure.high] for figure in intervals]).reshape(-1, 2).T
    axis.errorbar(
        np.asarray(places, float)[order],
        values,
        np.abs(ends - values),
        color=colour,
        label=label,
        marker=".",
        markersize=4,
        linewidth=0.8,
        elinewidth=0.5,
    )


@styled
def single_points_figure(
    results: Results, quantity: str, method: str = "gauss-newton", name: str = "",
    labels: Labels = PLAIN,
) -> Figure:  # fmt: skip
    """Which removed points are mispredicted, and why.

    Above, a map of the training points: those that were removed in the colour of their rank
    correlation, all others grey. Below, the relative error of each against its leverage, and
    against the size of its actual effect. Of a group the first point is drawn.
    """
    by_point = results.by_group(method, quantity)
    figure = Figure(figsize=(PAGE, 5.4), layout="constrained")
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.2, 1))
    above, below = parts[:, 0]
    _draw_map(above.subplots(), results, by_point, labels)
    axes = below.subplots(1, 2, sharey=True)
    kinds = np.array(results.kinds())[by_point.groups]
    for axis, x, label in (
        (axes[0], by_point.leverage, "1 - leverage"),
        (axes[1], by_point.effect, f"size of the actual change of {labels.with_unit(quantity)}"),
    ):
        values = 1 - x if label.startswith("1") else x
        for kind, colour in _kinds(kinds):
            these = (kinds == kind) & (values > 0) & (by_point.error > 0)
            axis.plot(values[these], by_point.error[these], ".", color=colour, ms=3, label=kind)
        axis.set(xscale="log", yscale="log", xlabel=label)
        axis.grid()
    axes[0].set_ylabel("relative error")
    below.legend(*axes[1].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    symbol = labels.symbol(quantity)
    above.suptitle(
        f"{name}  each removed point's effect on {symbol} by {method}", x=0.01, ha="left"
    )
    return figure


def _draw_map(axis: Axes, results: Results, by_point: GroupFigures, labels: Labels) -> None:
    places = results.train_x
    axis.plot(places[:, 0], places[:, -1], ".", color="0.8", markersize=1.5, zorder=0)
    chosen = places[[results.groups[group][0] for group in by_point.groups]]
    order = np.argsort(-by_point.correlation, kind="stable")
    low = float(np.nanpercentile(by_point.correlation, 2)) if len(order) else 0.0
    mappable = axis.scatter(
        chosen[order, 0], chosen[order, -1], c=by_point.correlation[order], s=9, cmap=MAGNITUDE_MAP,
        linewidths=0, clip_on=False,
    )  # fmt: skip
    mappable.set_clim(*apart(low, 1.0))
    known = by_point.correlation[np.isfinite(by_point.correlation)]
    add_colour_bar(axis, mappable, known if known.size else np.ones(1), "rank correlation")
    axis.set(
        aspect="equal",
        xlabel=labels.with_unit(labels.axes[0]),
        ylabel=labels.with_unit(labels.axes[1]),
    )
