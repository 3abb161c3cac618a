"""All indicators of the second paper, read out of a score file in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pinnfluence.scores.file import Scores
from pinnfluence.scores.indicators.by_place import direction, proximity, region_ratio
from pinnfluence.scores.indicators.by_term import cancellation, loss_fraction
from pinnfluence.scores.indicators.case import Case
from pinnfluence.scores.indicators.shares_of_points import average

READINGS: dict[str, Callable[[Case], Mapping[str, np.ndarray]]] = {
    "mean": lambda case: by_term(case, lambda matrix: matrix.mean(1)),
    "mean of |Inf|": lambda case: by_term(case, lambda matrix: matrix.abs_mean(1)),
    "loss fraction": loss_fraction,
    "cancellation": cancellation,
    "direction": direction,
    "region ratio": region_ratio,
    "proximity": proximity,
}
"""Indicators by name. Each gives values at the test points by part (loss term, coordinate, ...),
whose mean over those that are not NaN is the indicator of a network."""


@dataclass(frozen=True)
class Reading:
    """One indicator of one quantity: its value, and what uniform influence gives.

    ``value`` and ``uniform`` are means over test points. Sign and scale matter to ``mean`` and
    ``mean of |Inf|`` alone, but for the 1e-12 of the region ratio.
    """

    quantity: str
    indicator: str
    part: str
    value: float
    uniform: float


def readings(
    scores: Scores,
    quantities: Sequence[str] | None = None,
    center: tuple[float, ...] | None = None,
    sign: str = "removal",
    scale: str = "removal",
) -> list[Reading]:
    """All indicators of some quantities of a score file; by default of the outputs.

    Of a model without outputs of its own, by default of its derived quantities.

    Args:
        scores: see ``load_scores``.
        quantities: keys of the scores.
        center: from which the radius is measured, for ``direction``.
        sign: ``removal``, positive where taking the point away raises f; or ``adding``.
        scale: ``removal``, ``paper`` (n_train times as large) or ``file``, see
            ``pinnfluence.scores.convention``.

    Raises:
        KeyError: no such quantity. InputError: a convention that these scores do not have.

    >>> readings(pinnfluence.load_scores("model_zoo/good_influences"), ["u"])   # doctest: +SKIP
    """
    found = []
    derived = [name for name in scores.test if name not in scores.terms]
    for quantity in quantities or scores.metadata["outputs"] or derived:
        case = Case.of(scores, quantity, center, sign, scale)
        uniform = case.uniform()
        for name, measure in READINGS.items():
            baseline = measure(uniform)
            found += [
                Reading(quantity, name, part, average(values), average(baseline[part]))
                for part, values in measure(case).items()
            ]
    return found


def by_term(case: Case, reduce: Callable[..., np.ndarray | float]) -> dict[str, np.ndarray]:
    """A reduction over training points of the whole and of each part, ``[n_test]``."""
    matrices = {"": case.whole, **case.parts}
    return {name: np.asarray(reduce(matrix)) for name, matrix in matrices.items()}
