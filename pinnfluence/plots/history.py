"""The course of a training run as a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pinnfluence.plots.drawing import styled
from pinnfluence.problem.labels import PLAIN, Labels

ERROR = "error_"
"""Columns of the history with this prefix are relative L2 errors, those before are loss terms."""


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
        config: the settings of the run; with them a line marks each change of the optimiser.
    """
    errors = [column for column in history if column.startswith(ERROR)]
    terms = [column for column in history if column not in ("step", "seconds", *errors)]
    figure = Figure(figsize=(7.0, 4.6 if errors else 2.6), layout="constrained")
    axes = figure.subplots(2 if errors else 1, 1, sharex=True, squeeze=False)[:, 0]
    total = np.sum([history[term] for term in terms], axis=0)
    axes[0].plot(history["step"], total, color="black", linewidth=1.2, label="total")
    for term in terms:
        _draw(axes[0], history, term, term.replace("_", " "))
    axes[0].set_ylabel("loss terms")
    for column in errors:
        symbol = labels.symbol(column.removeprefix(ERROR))
        _draw(axes[1], history, column, symbol, marker=".")
    if errors:
        axes[1].set_ylabel("relative $L_2$ error")
    for axis in axes:
        axis.set_yscale("log")
        axis.grid(linewidth=0.3, alpha=0.5)
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    for step, optimiser in _optimiser_changes(config or {}, float(history["step"][-1])):
        for axis in axes:
            axis.axvline(step, color="0.3", linewidth=0.8, linestyle="--")
        place = {"xy": (step, 1), "xycoords": ("data", "axes fraction")}
        axes[0].annotate(optimiser, **place, xytext=(2, 2), textcoords="offset points", size=7)
    axes[-1].set_xlabel("step")
    axes[0].set_title(name, loc="left", weight="bold")
    return figure


def _optimiser_changes(config: Mapping[str, Any], last: float) -> Iterator[tuple[int, str]]:
    """The step at which each further optimiser began, where the settings and the end show it.

    L-BFGS may stop early; then it is not known where Levenberg-Marquardt took over.
    """
    adam, lbfgs, lm = (config.get(f"n_iterations{end}", 0) for end in ("", "_lbfgs", "_lm"))
    if adam and lbfgs and last > adam:
        yield adam, "L-BFGS"
    if adam + lbfgs and lm and (last == adam + lbfgs + lm or (lbfgs == 0 and last > adam)):
        yield adam + lbfgs, "Levenberg-Marquardt"


def _draw(
    axis: Axes, history: Mapping[str, np.ndarray], column: str, label: str, marker: str = ""
) -> None:
    known = np.isfinite(history[column]) & (history[column] > 0)
    step, values = history["step"][known], history[column][known]
    axis.plot(step, values, linewidth=0.7, marker=marker, markersize=3, label=label)
