"""The course of a training run as a figure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pinnfluence.plots.style import PAGE, styled
from pinnfluence.problem.labels import PLAIN, Labels
from pinnfluence.training.history import ERROR, FRESH, loss_terms


@styled
def history_figure(
    history: Mapping[str, np.ndarray],
    name: str = "",
    labels: Labels = PLAIN,
    config: Mapping[str, Any] | None = None,
) -> Figure:
    """Loss terms ``c_k mean r_k^2`` and relative L2 errors (1: nothing learned) against the step.

    Args:
        history: columns of ``history.csv`` by name, see ``read_history``.
        name: the model's, printed over the left corner.
        labels: symbols of the fields.
        config: the settings of the run; with them each optimiser is named where it begins.
    """
    errors = [column for column in history if column.startswith(ERROR)]
    terms = loss_terms(history)
    figure = Figure(figsize=(PAGE, 4.2 if errors else 2.4), layout="constrained")
    axes = figure.subplots(2 if errors else 1, 1, sharex=True, squeeze=False)[:, 0]
    draw_total(axes[0], history)
    for term in terms:
        _draw(axes[0], history, term, term.replace("_", " "))
    axes[0].set_title("loss terms", loc="right", pad=10)
    if errors:
        draw_errors(axes[1], history, labels)
        axes[1].set_title("relative $L_2$ errors", loc="right")
    for axis in axes:
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    mark_optimisers(axes, history, config or {})
    axes[-1].set_xlabel("step")
    axes[0].set_title(name, weight="bold", pad=10)
    return figure


@styled
def histories_figure(
    histories: Mapping[str, Mapping[str, np.ndarray]],
    labels: Labels = PLAIN,
    configs: Mapping[str, Mapping[str, Any]] | None = None,
) -> Figure:
    """Total loss, and below it the errors, a column for each model; see ``history_figure``."""
    figure = Figure(figsize=(PAGE, 2.8), layout="constrained")
    axes = figure.subplots(2, len(histories), sharey="row", sharex="col", squeeze=False)
    for column, (name, history) in zip(axes.T, histories.items(), strict=True):
        draw_total(column[0], history)
        draw_errors(column[1], history, labels)
        mark_optimisers(column, history, (configs or {}).get(name, {}))
        column[0].set_title(name, weight="bold", pad=9)
        column[1].set_xlabel("step")
        column[1].locator_params("x", nbins=3)
    axes[0, 0].annotate("loss", (0, 1), (2, -8), "axes fraction", textcoords="offset points")
    axes[1, 0].annotate("error", (0, 1), (2, -8), "axes fraction", textcoords="offset points")
    axes[1, -1].legend(loc="upper right", fontsize=6.5)
    return figure


def draw_total(axis: Axes, history: Mapping[str, np.ndarray]) -> None:
    """The sum of the loss terms against the step, and that at fresh points where it is known."""
    total = np.sum([history[term] for term in loss_terms(history)], axis=0)
    axis.plot(history["step"], total, color="black", linewidth=1.2, linestyle="-", label="total")
    if FRESH in history:
        _draw(axis, history, FRESH, "at fresh points", marker="o", color="black")
    axis.set_yscale("log")
    axis.grid()


def draw_errors(axis: Axes, history: Mapping[str, np.ndarray], labels: Labels) -> None:
    """Relative L2 errors of the fields against the step."""
    for column in (column for column in history if column.startswith(ERROR)):
        _draw(axis, history, column, labels.symbol(column.removeprefix(ERROR)), marker=".")
    axis.set_yscale("log")
    axis.grid()


def mark_optimisers(
    axes: Iterable[Axes], history: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> None:
    """The name of each optimiser where it begins, and a line at each change."""
    first, last = float(history["step"][0]), float(history["step"][-1])
    for step, optimiser in optimisers(config, last):
        for number, axis in enumerate(axes):
            if step:
                axis.axvline(step, color="0.3", linewidth=0.8, linestyle="--")
            if number == 0:
                place = (max(step, first), 1.02)
                axis.text(*place, optimiser, transform=axis.get_xaxis_transform(), size=6)


def optimisers(config: Mapping[str, Any], last: float) -> Iterator[tuple[int, str]]:
    """Each optimiser with the step at which it began, where settings and the last step show it.

    L-BFGS may stop early; then it is not known where Levenberg-Marquardt (LM) took over. So may all
    that have more iterations than the patience of early stopping.
    """
    adam, lbfgs, lm = (config.get(f"n_iterations{end}", 0) for end in ("", "_lbfgs", "_lm"))
    first = [n for n, length in (("Adam", adam), ("L-BFGS", lbfgs), ("LM", lm)) if length]
    yield from ((0, name) for name in first[:1])
    whole = last == adam + lbfgs + lm
    adam_is_whole = last > adam and adam <= (config.get("patience") or adam)
    if adam and lbfgs and (whole or adam_is_whole):
        yield adam, "L-BFGS"
    if adam + lbfgs and lm and (whole or (lbfgs == 0 and adam_is_whole)):
        yield adam + lbfgs, "LM"


def _draw(
    axis: Axes, history: Mapping[str, np.ndarray], column: str, label: str, **style: Any
) -> None:
    known = np.isfinite(history[column]) & (history[column] > 0)
    step, values = history["step"][known], history[column][known]
    axis.plot(step, values, linewidth=0.7, markersize=2.5, label=label, **style)
