"""A report in words and in figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pinnfluence.diagnosis.report import OutputError, Report

BETWEEN = 10.0
"""Loss on fresh points over that on the training's from which on a network does not fit between."""

UNFINISHED = 0.1
"""Part of the loss that one step would take away, from which on training was not at its end."""

NOTHING = 1e-12
"""Loss on the training's points over that on fresh ones that counts as none at all."""


def text(report: Report) -> str:
    """One screen: how wrong, where, between the points, because of what, what to do next."""
    lines = [_verdict(report), ""]
    lines += [_output(report, name, output) for name, output in report.outputs.items()]
    lines += [
        f"  {name} {before:.6g}, corrected {after:.6g}" + ("" if report.reliable else " (doubtful)")
        for name, (before, after) in report.measures.items()
    ]
    lines += ["", *_fit(report), "", *_table(report), "", *_weights(report)]
    if report.unknowns is not None:
        lines += ["", *_unknowns(report)]
    lines += ["", "What to do next", *(f"  - {line}" for line in advice(report))]
    return "\n".join(lines)


def percent(part: float) -> str:
    """A part in percent, two digits."""
    return f"{100 * part:.2g} %" if part < 9.95 else f"{100 * part:.0f} %"


def _verdict(report: Report) -> str:
    worst = max(report.outputs.values(), key=lambda output: output.relative)
    if report.reliable:
        several = ", ".join(f"{n} {percent(o.relative)}" for n, o in report.outputs.items())
        return f"The estimate is stable: the network is off by {several}."
    if worst.at_least < 0.01:
        return (
            "The residuals between the training points are not explained by a small change of the "
            "network: how wrong it is cannot be said from these points."
        )
    return (
        "The network is too far from the solution for its error to be mapped: it is wrong, "
        + ", ".join(f"{n} by at least {percent(o.at_least)}" for n, o in report.outputs.items())
        + "."
    )


def _output(report: Report, name: str, output: OutputError) -> str:
    place = ", ".join(
        f"{n} = {c:.3g}" for n, c in zip(report.pinn.inputs, output.place, strict=True)
    )
    said = f"off by {percent(output.relative)}"
    if not output.reliable:
        said = f"off by at least {percent(output.at_least)}, perhaps {percent(output.relative)}"
    return (
        f"  {name}: {said} (rms {output.rms:.2g}); most at {place}: solution - network "
        f"{output.largest:+.2g}; doubt {percent(output.doubt)}"
    )


def _fit(report: Report) -> list[str]:
    own = sum(term.training for term in report.terms.values())
    new = sum(term.fresh for term in report.terms.values())
    ratio = new / own if own > 0 else np.inf
    between = "fits between its points" if ratio < BETWEEN else "does not fit between its points"
    at_end = "is not at a minimum" if unfinished(report) else "is at a minimum"
    return [
        f"The network {between}: loss {new:.2g} on fresh points, {own:.2g} on its own "
        f"({ratio:.3g} times).",
        f"Training {at_end}: one Gauss-Newton step would take away {percent(report.decrease)} of "
        "its loss.",
        f"{report.press.effective:.0f} of {report.pinn.n_params} parameters are determined by "
        f"{len(report.train_x)} points; {percent(report.press.interpolated)} of their residuals "
        "are held by a point of their own.",
    ]


def _table(report: Report) -> list[str]:
    outputs = report.outputs
    head = "".join(f"{f'error of {name}':>14s}" for name in outputs)
    lines = [f"{'loss term':14s}{'training':>11s}{'PRESS':>11s}{'fresh':>11s}{head}"]
    for name, term in report.terms.items():
        shares = "".join(f"{100 * output.terms[name]:12.0f} %" for output in outputs.values())
        lines.append(f"{name:14s}{term.training:11.2e}{term.press:11.2e}{term.fresh:11.2e}{shares}")
    if report.press.interpolated > 0.05:
        lines.append("PRESS is no estimate here: the network goes through too many of its points.")
    return lines


def _weights(report: Report) -> list[str]:
    lines = ["What ten percent more weight on a loss term does to the error, to first order"]
    for name, slopes in report.slopes.items():
        most = sorted(slopes.items(), key=lambda item: -abs(item[1]))[:3]
        said = ", ".join(f"{term} {10 * slope:+.2g} %" for term, slope in most)
        lines.append(f"  {name}: {said}")
    return lines


def _unknowns(report: Report) -> list[str]:
    found = report.unknowns
    assert found is not None
    lines = ["Unknowns"]
    for n, name in enumerate(found.names):
        line = f"  {name} = {found.values[n]:.6g}"
        if found.deviations is None:
            line += f", moves by {found.sensitivities[n]:.2g} with noise 1 (give its level: noise)"
        else:
            line += f" +- {1.96 * found.deviations[n]:.2g} (95 percent)"
        if found.determined[n] < 0.5:
            line += "; NOT determined by the points: only the damping holds it"
        lines.append(line)
    return lines


def advice(report: Report) -> list[str]:
    """What to do next, the most urgent first."""
    own = sum(term.training for term in report.terms.values())
    new = sum(term.fresh for term in report.terms.values())
    lines = []
    if own == 0 or new / own >= BETWEEN:
        places = "; ".join(
            "(" + ", ".join(f"{c:.3g}" for c in place) + ")" for place in worst_places(report, 3)
        )
        lines.append(f"train on more points, first of all near {places}")
    if unfinished(report):
        lines.append("train longer: the loss on its own points still falls")
    if not report.reliable:
        lines.append("then ask again: the map of the error is not to be believed yet")
    return lines or ["nothing: take the corrected values where you need more digits"]


def unfinished(report: Report) -> bool:
    """Whether training stopped before its loss did: not where only rounding is left of it."""
    own = sum(term.training for term in report.terms.values())
    new = sum(term.fresh for term in report.terms.values())
    return report.decrease >= UNFINISHED and own > NOTHING * new


def worst_places(report: Report, n: int) -> list[tuple[float, ...]]:
    """Fresh points with the largest residuals, apart from each other."""
    losses, x = report.estimate.fit.of(report.pinn).unweighted().point_losses(), report.fresh_x
    size = np.maximum(np.ptp(x, axis=0), 1e-300)
    chosen: list[int] = []
    for i in np.argsort(-losses):
        near = [np.linalg.norm((x[i] - x[j]) / size) < 0.03 for j in chosen]
        if not any(near):
            chosen.append(int(i))
        if len(chosen) == n:
            break
    return [tuple(float(c) for c in x[i]) for i in chosen]


def figures(report: Report) -> dict[str, Any]:
    """All figures of a report by name, for JSON."""
    estimate = report.estimate
    return {
        "verdict": _verdict(report),
        "reliable": report.reliable,
        "outputs": {
            name: vars(output) | {"at_least": output.at_least, "reliable": output.reliable}
            for name, output in report.outputs.items()
        },
        "terms": {name: vars(term) for name, term in report.terms.items()},
        "weights": report.slopes,
        "measures": {
            name: {"network": before, "corrected": after}
            for name, (before, after) in report.measures.items()
        },
        "unexplained": estimate.unexplained,
        "newton_steps": estimate.n_steps,
        "dampings": [
            {"part_of_largest_eigenvalue": trial.part, "loss": trial.loss}
            for trial in estimate.trials
            if np.isfinite(trial.part)
        ],
        "effective_parameters": report.press.effective,
        "interpolated": report.press.interpolated,
        "decrease": report.decrease,
        "advice": advice(report),
        "n_fresh": len(report.fresh_x),
        "n_train": len(report.train_x),
        "n_params": report.pinn.n_params,
    }
