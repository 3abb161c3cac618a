"""The report as one page that works offline: words, maps, tables."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pinnfluence.diagnosis.report import Report
from pinnfluence.plots.drawing import (
    draw_field,
    panels,
    render,
    styled,
    symmetric_limits,
    triangulate,
)
from pinnfluence.problem.domain import Difference, Disk
from pinnfluence.problem.labels import PLAIN, Labels
from pinnfluence.reference.comparison import predict

ERROR_MAP = "RdBu_r"

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em;
       color: #1a1a1a; background: #fff; }
pre { font: 13px/1.45 ui-monospace, monospace; background: #f5f5f3; padding: 1em;
      overflow-x: auto; }
img { max-width: 100%; }
figcaption { color: #555; font-size: 13px; max-width: 75ch; }
"""


def page(report: Report, model: Any = None, name: str = "") -> str:
    """The page as HTML; with a model that has a problem, its labels, and its reference's errors."""
    problem = getattr(model, "problem", None)
    labels = problem.labels if problem is not None else PLAIN
    figures: dict[str, Figure] = {}
    if len(report.pinn.inputs) == 2:
        figures = _figures(report, problem, labels)
    title = html.escape(f"Diagnosis of {name or 'a network'}")
    blocks = "".join(_figure(caption, drawn) for caption, drawn in figures.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1>"
        f"<pre>{html.escape(report.text())}</pre>{blocks}</body></html>\n"
    )


def _figure(caption: str, figure: Figure) -> str:
    image = base64.b64encode(render(figure, "png", 130)).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{image}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _figures(report: Report, problem: Any, labels: Labels) -> dict[str, Figure]:
    obstacle = None
    if problem is not None and isinstance(problem.domain, Difference):
        obstacle = problem.domain.hole
    points, truth = report.x, None
    if problem is not None and problem.reference is not None:
        reference = problem.reference()
        points = reference.points
        values = predict(report.pinn.network, points, report.pinn.outputs)
        truth = {name: v - values[name] for name, v in reference.values.items() if name in values}
    found = {
        "Estimated error, solution minus network, from fresh points alone"
        + (
            "; beside it the true one, against the reference, in the same colours" if truth else ""
        ): error_maps(points, report.error(points), truth, obstacle, labels)
    }
    losses = report.estimate.fit.of(report.pinn).unweighted().point_losses()
    found["Residuals at the fresh points: logarithm of the sum of c_k r_k^2"] = dots(
        report.fresh_x, np.log10(np.maximum(losses, 1e-300)), obstacle, labels
    )
    training = report.pinn.at(report.train_x)
    of_row = np.concatenate([np.zeros(0, int), *training.term_rows().values()])
    order, leverage = report.press.point_leverage(of_row)
    found[
        "Leverage of the training points: near 1, a point alone decides what the network does there"
    ] = dots(report.train_x[order], leverage, obstacle, labels, (0.0, 1.0))
    return found


@styled
def error_maps(
    points: np.ndarray,
    estimated: Mapping[str, np.ndarray],
    truth: Mapping[str, np.ndarray] | None = None,
    obstacle: Disk | None = None,
    labels: Labels = PLAIN,
) -> Figure:
    """Estimated errors, a row for each output, beside the true ones where these are known."""
    columns = [("Estimated", estimated)] + ([("True", truth)] if truth else [])
    figure, axes = panels(points, len(estimated), len(columns), labels)
    triangulation = triangulate(points, obstacle)
    for row, name in zip(axes, estimated, strict=True):
        limits = symmetric_limits((truth or estimated)[name])
        for axis, (title, errors) in zip(row, columns, strict=True):
            label = f"error{labels.unit(name)}"
            draw_field(axis, triangulation, errors[name], ERROR_MAP, limits, label, obstacle)
            axis.set_title(f"{title} error of {labels.symbol(name)}")
    return figure


@styled
def dots(
    points: np.ndarray,
    values: np.ndarray,
    obstacle: Disk | None = None,
    labels: Labels = PLAIN,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Points in the colours of their values, the largest on top."""
    figure, axes = panels(points, 1, 1, labels)
    low, high = limits or tuple(np.percentile(values, [5, 100]))
    order = np.argsort(values)
    drawn = axes[0, 0].scatter(
        *points[order].T, c=values[order], s=4, cmap="magma_r", vmin=low, vmax=high, linewidths=0
    )
    figure.colorbar(drawn, ax=axes[0, 0], pad=0.01)
    return figure
