"""A report in words and in figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pinnfluence.diagnosis.findings import Findings, QuantityError
from pinnfluence.diagnosis.new_points import largest_apart

BETWEEN = 10.0
"""Ratio of fresh to training loss above which a network does not fit between its points."""

SMALL = 0.01
"""Lower bound of a relative error below which a network is not called wrong."""

WRONG = 0.05
"""Relative error above which a network is called wrong."""

HOLDS = 0.01
"""Part of an error above which the training point that causes it is named."""

LEFT_OUT = (
    "Losses have the weights of the training. Left out: estimated loss at each training point had "
    "it been left out of the training."
)
"""What the table's losses are, PRESS among them."""

NO_WEIGHT = "No loss weight changes the error: the terms do not compete for the parameters."

UNFINISHED = 0.1
"""Part of the loss that one step would remove, above which training has not converged."""

NOTHING = 1e-12
"""Loss on the training's points over that on fresh ones that counts as none at all."""


def text(report: Findings) -> str:
    """One screen: how wrong, where, between the points, because of what, what to do next."""
    errors = [_quantity(report, name, error) for name, error in report.errors.items()]
    measures = [
        f"  {name}: {before:.6g} by the network; corrected: {corrected_measure(report, name)}"
        for name, (before, _) in report.measures.items()
    ]
    sections = (
        [verdict(report)],
        [*errors, *measures],
        fit(report),
        _table(report),
        _weights(report),
        points(report),
        unknowns(report) if report.unknowns is not None else [],
        ["What to do next", *(f"  - {line}" for line in advice(report))],
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def percent(part: float) -> str:
    """A part in percent, two digits."""
    return f"{100 * part:.2g} %" if part < 0.1 else f"{100 * part:.0f} %"


def verdict(report: Findings) -> str:
    """The answer in one or two sentences."""
    worst = report.errors[_worst(report)[0]]
    if report.reliable:
        several = ", ".join(f"{n} {percent(e.relative)}" for n, e in report.errors.items())
        wrong = "wrong: it is off by" if worst.relative >= WRONG else "off by"
        return f"The network is {wrong} {several} (root mean square). This estimate is reliable."
    if not _is_surely_wrong(report):
        return _partly(report)
    return (
        "The network is wrong: "
        + ", ".join(f"{n} by at least {percent(e.at_least)}" for n, e in report.errors.items())
        + ". It is too far from the solution to say where and by how much exactly."
    )


def _partly(report: Findings) -> str:
    """The verdict on errors that are small as far as is known, and not all known."""
    known = {n: e for n, e in report.errors.items() if e.reliable}
    if not known:
        return (
            "The error of the network cannot be estimated: no small change of its parameters "
            "explains its residuals between the training points."
        )
    several = ", ".join(f"{n} {percent(e.relative)}" for n, e in known.items())
    rest = ", ".join(
        f"{n} (at least {percent(e.at_least)})" for n, e in report.errors.items() if n not in known
    )
    return (
        f"The network is off by {several} (root mean square). This estimate is reliable; that of "
        f"{rest} is not."
    )


def _quantity(report: Findings, name: str, error: QuantityError) -> str:
    found = f"  {name}: off by {size(error)}"
    if not error.reliable:
        return found
    side = "low" if error.largest > 0 else "high"
    where = place(report.pinn.inputs, error.place)
    return (
        f"{found}; rms error {error.rms:.2g}; most at {where}: {abs(error.largest):.2g} too {side}"
    )


def size(error: QuantityError) -> str:
    """How large an error is, as far as it is known."""
    if not error.reliable:
        return f"at least {percent(error.at_least)} (rough guess: {percent(error.relative)})"
    low, high = (percent(error.relative * (1 + sign * error.half_width)) for sign in (-1, 1))
    known = percent(error.relative)
    return known if low == high else f"{known} ({low} to {high})"


def corrected_measure(report: Findings, name: str) -> str:
    """A measure of the corrected fields: as uncertain, in parts of its correction, as they are."""
    if not report.reliable:
        return "no usable estimate"
    before, after = report.measures[name]
    half_width = max(error.half_width for error in report.errors.values())
    off = half_width * abs(after - before)
    digits = max(6, 2 + math.floor(math.log10(abs(after) / off))) if off and after else 6
    return f"{after:.{min(digits, 15)}g} +- {off:.1g}"


def place(inputs: Sequence[str], x: Sequence[float]) -> str:
    """A point by its coordinates."""
    return ", ".join(f"{n} = {c:.3g}" for n, c in zip(inputs, x, strict=True))


def fit(report: Findings) -> list[str]:
    """Whether it fits between its points, and whether its training was finished."""
    own = sum(term.training for term in report.terms.values())
    new = sum(term.fresh for term in report.terms.values())
    ratio = new / own if own > 0 else np.inf
    between = "fits" if ratio < BETWEEN else "does not fit"
    converged = "has not converged" if unfinished(report) else "has converged"
    end = f"one Gauss-Newton step would lower the training loss by {percent(report.decrease)}."
    if own <= NOTHING * new:
        end = "only rounding is left of its loss."
    return [
        f"The network {between} between its points: loss {new:.2g} on fresh points, {own:.2g} on "
        "those of its training" + (f" (ratio {ratio:.3g})." if own > NOTHING * new else "."),
        f"Training {converged}: {end}",
        f"Its {len(report.train_x)} training points determine about {report.press.effective:.0f} "
        f"of {report.pinn.n_params} parameters (or combinations of them); no point determines the "
        "others.",
        *_alone(report),
    ]


def _alone(report: Findings) -> list[str]:
    part = report.press.interpolated
    if part < 0.01:
        return []
    return [
        f"The network passes through {percent(part)} of its residuals (leverage near 1): that they "
        "are small says nothing about other points."
    ]


def _table(report: Findings) -> list[str]:
    outputs = report.errors if report.reliable else {}
    head = "".join(f"{f'share of {name}':>14s}" for name in outputs)
    lines = [f"{'loss term':14s}{'training':>11s}{'left out':>11s}{'fresh':>11s}{head}"]
    for name, term in report.terms.items():
        shares = "".join(f"{round(100 * output.terms[name]):12d} %" for output in outputs.values())
        lines.append(f"{name:14s}{term.training:11.2e}{term.press:11.2e}{term.fresh:11.2e}{shares}")
    press, fresh = (sum(getattr(t, k) for t in report.terms.values()) for k in ("press", "fresh"))
    if report.press.interpolated > 0.05:
        lines.append(f"{LEFT_OUT} No estimate here: the network goes through too many points.")
    elif press < fresh / BETWEEN:
        lines.append(f"{LEFT_OUT} Too small here: no training point is where residuals are large.")
    else:
        lines.append(LEFT_OUT)
    return lines


def no_weight_matters(report: Findings) -> bool:
    """Whether ten percent more weight on any loss term changes no error by a thousandth percent."""
    slopes = [slope for found in report.slopes.values() for slope in found.values()]
    return max(map(abs, slopes), default=0.0) < 1e-4


def _weights(report: Findings) -> list[str]:
    if no_weight_matters(report):
        return [NO_WEIGHT]
    if not report.reliable:
        return []
    lines = ["What ten percent more weight on a loss term does to the error (+: it grows)"]
    for name, slopes in report.slopes.items():
        most = sorted(slopes.items(), key=lambda item: -abs(item[1]))[:3]
        said = ", ".join(f"{term} {10 * slope:+.2g} %" for term, slope in most)
        lines.append(f"  {name}: {said}")
    return lines


def points(report: Findings) -> list[str]:
    """Which points the worst error comes from; of an unreliable estimate, the residuals alone."""
    if not report.reliable:
        return [f"Residuals between the points are largest near {_sources(report)}"]
    name, worst = _worst(report)
    holding = report.holding[:, worst]
    lines = [f"The error of {name} comes from residuals near {_sources(report)}"]
    if holding.max() > HOLDS:
        first = int(np.argmax(holding))
        lines.append(
            f"Training points that raise it: near {_listed(report.train_x, holding)}; without the "
            f"first, the error would be {percent(holding[first])} smaller, to first order"
        )
    else:
        lines.append("No single training point causes the error.")
    return [*lines, new_points(report)]


def new_points(report: Findings) -> str:
    """Where a further training point would lower the error most."""
    best = float(report.helping.max(initial=0.0))
    if best < HOLDS:
        return "No single new point would lower the squared error by a percent."
    return (
        f"A new training point would help most near {_listed(report.candidates, report.helping)}; "
        f"the first alone would remove {100 * best:.3g} % of the squared error, to first order"
    )


def _sources(report: Findings) -> str:
    """Where the worst error comes from; of an unreliable estimate, where residuals are largest."""
    if not report.reliable:
        return _listed(report.fresh_x, report.fresh_losses)
    return _listed(report.fresh_x, np.abs(report.responsible[:, _worst(report)[1]]))


def _is_surely_wrong(report: Findings) -> bool:
    """Whether the lower bound of some error is not small."""
    return any(error.at_least >= SMALL for error in report.errors.values())


def _worst(report: Findings) -> tuple[str, int]:
    """The quantity with the largest relative error, by name and by number."""
    name = max(report.errors, key=lambda n: report.errors[n].relative)
    return name, list(report.errors).index(name)


def _listed(x: np.ndarray, values: np.ndarray) -> str:
    found = ["(" + ", ".join(f"{c:.3g}" for c in x[i]) + ")" for i in largest_apart(x, values, 3)]
    return "; ".join(found)


def unknowns(report: Findings) -> list[str]:
    """The unknowns of an inverse problem."""
    found = report.unknowns
    assert found is not None
    lines = ["Unknowns"]
    for n, name in enumerate(found.names):
        line = f"  {name} = {found.values[n]:.6g}"
        if found.deviations is None:
            line += f", {found.sensitivities[n]:.2g} a unit of noise (for an interval: noise=...)"
        else:
            line += f" +- {1.96 * found.deviations[n]:.2g} (95 percent)"
        if found.determined[n] < 0.5:
            line += "; NOT determined by the training: any value fits as well"
        lines.append(line)
    return lines


def advice(report: Findings) -> list[str]:
    """What to do next, the most urgent first."""
    own = sum(term.training for term in report.terms.values())
    new = sum(term.fresh for term in report.terms.values())
    lines = []
    if own == 0 or new / own >= BETWEEN:
        lines.append(f"train on more points, first of all near {_sources(report)}")
    if unfinished(report):
        lines.append("train longer: the loss on the training points still falls")
    if not report.reliable and _is_surely_wrong(report):
        lines = lines or [
            "train a larger network, or with other loss weights: this one has points enough, and "
            "its training has converged"
        ]
        lines.append("then diagnose again: the error is too large to be located now")
    elif not report.reliable:
        lines.append(
            "diagnose with more fresh points, or train a larger network: parameters of this "
            "one do not explain what is left between the points"
        )
    return lines or [
        "nothing has to be done: the network fits between its points, and its error is known"
    ]


def unfinished(report: Findings) -> bool:
    """Whether training stopped before its loss did: not where only rounding is left."""
    own = sum(term.training for term in report.terms.values())
    new = sum(term.fresh for term in report.terms.values())
    return report.decrease >= UNFINISHED and own > NOTHING * new
