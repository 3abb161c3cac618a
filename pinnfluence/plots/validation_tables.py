"""Tables of scores against retraining: the evidence, by stage of training, the worst points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from pinnfluence.plots.tables import table_figure
from pinnfluence.plots.validation import METHODS, drawn_methods
from pinnfluence.validation.agreement import Spread
from pinnfluence.validation.results import SPECTRUM, Results, Row


def agreement_figure(rows: Sequence[Row], note: str = "") -> Figure:
    """The table of evidence: a line for each method and quantity, without those of spectra."""
    header = ["method", "matrix", "weights", "rank", "damping", "of", "Pearson", "Spearman"]
    header += ["slope", "by point (5 %)", "by test point (5 %)"]
    body = [
        [
            row.method,
            row.curvature,
            row.weighting,
            str(row.rank),
            f"{row.damping:.1e}",
            row.quantity,
            *map(str, (row.agreement.pearson, row.agreement.spearman, row.agreement.slope)),
            *map(_spread, (row.agreement.by_group, row.agreement.by_test)),
        ]
        for row in rows
        if row.method != SPECTRUM
    ]
    return table_figure(header, body, note=note)


def stages_figure(stages: Mapping[str, Results], note: str = "") -> Figure:
    """Agreement by stage of the training: a line for each, of the first quantity.

    Losses are those of the control without its proximal term; the gradient norm that retraining
    asked for says how far a typical point can pull.
    """
    header = ["stage", "checkpoint", "loss", "proximal", "converged", *METHODS]
    body = []
    for stage, results in stages.items():
        facts, quantity = results.facts, results.quantities[0]
        converged = f"{int(results.converged.sum())} of {len(results.converged)}"
        known = drawn_methods(results)
        cells = [
            str(results.row(method, quantity).agreement.spearman) if method in known else ""
            for method in METHODS
        ]
        body.append(
            [
                stage or "last",
                str(facts.get("checkpoint", {}).get("name", "")),
                f"{facts['control']['loss']:.1e}",
                f"{facts['settings']['proximal']:.0e}",
                converged,
                *cells,
            ]
        )
    return table_figure(header, body, note=note)


def proximal_table_figure(experiments: Sequence[Results], quantity: str, note: str = "") -> Figure:
    """Agreement by proximal weight: a line for each, with what retraining reached.

    Gradient norm: the median over the removed points. Drift: root mean square of the change of the
    quantity from the trained network to the control.
    """
    header = ["weight", "converged", "gradient norm", "drift"]
    groups = [("", len(header))]
    methods = [m for m in METHODS if any(m in drawn_methods(one) for one in experiments)]
    for method in methods:
        header += ["Pearson", "Spearman", "slope"]
        groups.append((method, 3))
    body = []
    for results in experiments:
        facts, number = results.facts, results.quantities.index(quantity)
        cells = [
            f"{facts['settings']['proximal']:.0e}",
            f"{int(results.converged.sum())} of {len(results.converged)}",
            f"{np.median(results.gradient_norms):.1e}",
            f"{facts['control']['drift'][number]:.1e}",
        ]
        known = drawn_methods(results)
        for method in methods:
            if method not in known:
                cells += ["", "", ""]
                continue
            agreement = results.row(method, quantity).agreement
            cells += [
                f"{f.value:.3f}" for f in (agreement.pearson, agreement.spearman, agreement.slope)
            ]
        body.append(cells)
    return table_figure(header, body, groups, note)


def worst_points_figure(
    results: Results, quantity: str, method: str = "gauss-newton", n: int = 10, note: str = ""
) -> Figure:
    """The n removed points of lowest rank correlation: where, which loss terms, how and how far."""
    by_point = results.by_group(method, quantity)
    header = ["point", "place", "loss terms", "correlation", "rel. error", "effect", "leverage"]
    kinds, body = results.kinds(), []
    for number in np.argsort(by_point.correlation, kind="stable")[:n]:
        group = by_point.groups[number]
        point = int(results.groups[group][0])
        place = ", ".join(f"{value:.3f}" for value in results.train_x[point])
        figures = (by_point.correlation, by_point.error, by_point.effect, by_point.leverage)
        cells = [f"{values[number]:.3g}" for values in figures]
        body.append([str(point), place, kinds[group], *cells])
    return table_figure(header, body, note=note)


def _spread(spread: Spread) -> str:
    return f"{spread.median} ({spread.low:.2f})"
