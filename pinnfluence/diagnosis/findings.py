"""What a diagnosis finds out: errors of quantities, losses of terms, the points behind them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pinnfluence.diagnosis.error_estimate import RELIABLE, ErrorEstimate
from pinnfluence.diagnosis.inverse_parameters import Unknowns
from pinnfluence.diagnosis.press import Press
from pinnfluence.diagnosis.quantities import Quantities, changes, evaluate
from pinnfluence.loss.pinn import Pinn
from pinnfluence.runtime.calculation import calculations
from pinnfluence.storage.point_checks import check_points


@dataclass(frozen=True)
class QuantityError:
    """The estimated error of one quantity, and what the estimate is worth.

    relative: its norm over that of the corrected quantity. least: its norm over that of the
    corrected or of the network's, whichever is larger: far from the solution both say little of its
    size. rms: in its unit. largest, place: in its unit, at the points of the report and the fresh
    ones. unexplained: part of the residuals of the second set of fresh points that the
    correction leaves. by_damping, by_points: by what part of itself the map of the error changes
    with dampings that fit about as well, and with other fresh points. terms: part of the error that
    each loss term contributes; they add up to 1.
    """

    relative: float
    least: float
    rms: float
    largest: float
    place: tuple[float, ...]
    unexplained: float
    by_damping: float
    by_points: float
    terms: dict[str, float]

    @property
    def half_width(self) -> float:
        """How far the estimate may be off, relative to it: the largest of the three."""
        return max(self.unexplained, self.by_damping, self.by_points)

    @property
    def reliable(self) -> bool:
        """Whether the map of the error is to be believed, and not only that there is one."""
        return self.half_width <= RELIABLE

    @property
    def at_least(self) -> float:
        """What the relative error is at least.

        Of the least estimate over the dampings, less what the correction leaves unexplained and
        what other fresh points would change; how much dampings differ counts by half at most, as
        the least over them was taken already.
        """
        off = max(self.unexplained, self.by_points, min(self.by_damping, 0.5))
        return self.least * max(0.0, 1 - off)


@dataclass(frozen=True)
class TermLoss:
    """A loss term at the training points, at each of them left out, and at fresh points."""

    training: float
    press: float
    fresh: float


@dataclass(frozen=True)
@calculations
class Findings:
    """What a diagnosis found out about a network, in figures.

    estimate: of the error. errors, terms: by name of quantity and of loss term. x, fresh_x: points
    at which errors were looked at, and that were drawn. fresh_losses: ``sum_k c_k r_k^2`` at the
    fresh points, ``[n_fresh]``. responsible: part of the error of each quantity that a fresh point
    contributes, ``[n_fresh, n_quantities]``. holding: by what part of itself an error falls when a
    training point is removed, ``[n_train, n_quantities]``. candidates, helping: fresh points, and
    by what part of itself the squared error falls when one of them is added, ``[n_candidates]``.
    press: of the training points. slopes: ``d log |error| / d log c_k`` by quantity and loss term.
    measures: of the network and corrected, by name. unknowns: of an inverse problem. damping: of
    the training's curvature, under which it ended at a minimum, at least what a Cholesky factor
    resolves. decrease: part of the training's loss that a Gauss-Newton step would take away.
    """

    pinn: Pinn
    quantities: Quantities = field(repr=False)
    train_x: np.ndarray = field(repr=False)
    x: np.ndarray = field(repr=False)
    fresh_x: np.ndarray = field(repr=False)
    fresh_losses: np.ndarray = field(repr=False)
    estimate: ErrorEstimate = field(repr=False)
    errors: dict[str, QuantityError]
    terms: dict[str, TermLoss]
    responsible: np.ndarray = field(repr=False)
    holding: np.ndarray = field(repr=False)
    candidates: np.ndarray = field(repr=False)
    helping: np.ndarray = field(repr=False)
    press: Press = field(repr=False)
    slopes: dict[str, dict[str, float]]
    measures: dict[str, tuple[float, float]]
    unknowns: Unknowns | None
    damping: float
    decrease: float
    seconds: dict[str, float]

    def error(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Estimated error ``solution - prediction`` at points, by name of quantity.

        Args:
            points: ``[n, n_inputs]``.

        Returns:
            ``[n]`` each, float64, in the quantity's unit.

        Raises:
            InputError: points of another shape, or that are not finite.

        >>> report.error(points)["u"]                                    # doctest: +SKIP
        """
        points = np.asarray(points)
        check_points(points, len(self.pinn.inputs), "given")
        return changes(self.pinn, self.estimate.best.step, points, self.quantities)

    def values(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """The network's predictions at points ``[n, n_inputs]``, ``[n]`` by name of quantity."""
        return evaluate(self.pinn, points, self.quantities)

    @property
    def reliable(self) -> bool:
        """Whether the estimate of every quantity is."""
        return all(error.reliable for error in self.errors.values())
