"""How wrong is my network, where, and why: everything at once."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pinnfluence.diagnosis import words
from pinnfluence.diagnosis.corrected import corrected
from pinnfluence.diagnosis.error_estimate import RELIABLE, ErrorEstimate
from pinnfluence.diagnosis.fresh import FreshPoints, fresh_sets, places_of
from pinnfluence.diagnosis.inverse_parameters import Unknowns
from pinnfluence.diagnosis.loss_weights import error_slopes
from pinnfluence.diagnosis.new_points import target_of
from pinnfluence.diagnosis.point_loss import PointLoss
from pinnfluence.diagnosis.press import Press
from pinnfluence.diagnosis.quantities import Quantities, changes, evaluate, quantities_of
from pinnfluence.diagnosis.stages import Estimated, LongStages
from pinnfluence.influence.quantity import Quantity
from pinnfluence.influence.target import Target
from pinnfluence.loss.pinn import Pinn
from pinnfluence.runtime.progress import Stages
from pinnfluence.storage.points import check_points


@dataclass(frozen=True)
class QuantityError:
    """The estimated error of one quantity, and what the estimate is worth.

    relative: its norm over that of the corrected quantity. least: its norm over that of the
    corrected or of the network's, whichever is larger: far from the solution both say little of its
    size. rms, largest: in its unit. place: where
    it is largest. unexplained: part of the residuals of the second set of fresh points that the
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
    def doubt(self) -> float:
        """How far the estimate may be off, as a part of it: the largest of the three."""
        return max(self.unexplained, self.by_damping, self.by_points)

    @property
    def reliable(self) -> bool:
        """Whether the map of the error is to be believed, and not only that there is one."""
        return self.doubt <= RELIABLE

    @property
    def at_least(self) -> float:
        """What the relative error is at least."""
        return self.least * (1 - min(self.doubt, 0.5))


@dataclass(frozen=True)
class TermLoss:
    """A loss term at the training's points, what leverages make of it, and at fresh points."""

    training: float
    press: float
    fresh: float


@dataclass(frozen=True)
class Report:
    """The diagnosis of a network; attributes hold the figures, ``text()`` says them in words.

    estimate: of the error. errors, terms: by name of quantity and of loss term. x, fresh_x: points
    at which errors were looked at, and that were drawn. fresh_losses: ``sum_k c_k r_k^2`` at the
    fresh points, ``[n_fresh]``. responsible: part of the error of each quantity that a fresh point
    contributes, ``[n_fresh, n_quantities]``. holding: by what part of itself an error falls when a
    training point is removed, ``[n_train, n_quantities]``. candidates, helping: fresh points, and
    by what part of itself the squared error falls when one of them is added, ``[n_candidates]``.
    press: of the training points.
    slopes: ``d log |error| / d log c_k`` by quantity and loss term. measures: of the network and
    corrected, by name. unknowns: of an inverse problem. damping: of the training's curvature, under
    which it ended at a minimum; at least what a Cholesky factor resolves. decrease: part of the
    training's loss that a Gauss-Newton step would take away.
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

    def target(
        self,
        quantity: Quantity | None = None,
        at: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> Target:
        """The estimated squared error as a target of new points: for ``Influence.candidates``.

        Args:
            quantity: whose error, at the points ``at`` ``[n, n_inputs]``; None: the sum of the
                squared relative errors of all quantities of the report, at some of its points.
            weights: ``[n]``; given, the error of the number ``sum_i weights_i f(x_i)``.

        Raises:
            InputError: no such quantity, points or weights that do not fit.

        >>> found = influence.candidates(points, report.target())        # doctest: +SKIP
        >>> points[found.select(20).points]                              # doctest: +SKIP
        """
        return target_of(self, quantity, at, weights)

    @property
    def reliable(self) -> bool:
        """Whether the estimate of every quantity is."""
        return all(error.reliable for error in self.errors.values())

    def text(self) -> str:
        """The report in plain words, one screen."""
        return words.text(self)

    def to_dict(self) -> dict[str, Any]:
        """The figures, for JSON."""
        return words.figures(self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text())}</pre>"


def diagnose(
    model: Any,
    fresh: int | None = None,
    fresh_x: np.ndarray | Pinn | None = None,
    seed: int = 0,
    quantities: Sequence[str] | Mapping[str, Quantity] | None = None,
    noise: Mapping[str, float] | None = None,
    stages: Stages | None = None,
    folder: str | Path | None = None,
) -> Report:
    """How wrong a trained network is, where, and why; no reference is needed.

    The mathematics stands in ``pinnfluence.diagnosis.error_estimate``.

    Args:
        model: a ``TrainedModel`` (see ``load_model``), a trained ``dde.Model``, or a ``Pinn`` with
            the points of its training (see ``torch_model``).
        fresh: number of fresh points; default twice as many as were trained on, at least half as
            many as the network has parameters, and less where that takes too long.
        fresh_x: fresh points of your own ``[n, n_inputs]``, distributed as those of the training;
            needed where the model does not say how to draw some. Of a ``torch_model``: the same
            network at fresh points of each term, by ``torch_model``.
        seed: of the fresh points.
        quantities: whose errors are asked for: names of outputs, of derived quantities and of
            derivatives (``"u_x"``), or functions by name; default: the outputs.
        noise: standard deviation of the measurements, by the loss term that compares with them:
            for the unknowns of an inverse problem.
        stages: is told of the stages, for progress bars.
        folder: where finished stages are kept, so that a stopped diagnosis goes on; None: nowhere.

    Raises:
        InputError: points that do not fit; no way to draw fresh ones; no such quantity.

    >>> report = pinnfluence.diagnose(model, seed=0)                     # doctest: +SKIP
    >>> print(report.text())                                             # doctest: +SKIP
    """
    pinn, train_x, stages = *_read(model), stages or Stages()
    sets = fresh_sets(model, pinn, train_x, fresh, fresh_x, seed)
    fit, check = (points.loss for points in sets)
    x = places_of(model, sets[1])
    functions = quantities_of(pinn, quantities, x)
    training = FreshPoints.all_of(pinn.at(train_x)).loss
    long = LongStages(
        training, fit, check, x, functions, noise or {}, stages, Path(folder) if folder else None
    )
    estimated = long.estimated()
    errors = changes(pinn, estimated.estimate.best.step, x, functions)
    trained = long.trained(errors, estimated.estimate.best.step)
    norms = np.array([max(float(np.linalg.norm(error)), 1e-300) for error in errors.values()])
    return Report(
        pinn,
        functions,
        train_x,
        x,
        sets[0].x,
        fit.unweighted().point_losses(),
        estimated.estimate,
        _errors(estimated, list(fit.slices), errors, x, functions),
        _terms(training, trained.press, fit),
        estimated.point_shares / norms,
        trained.holding / norms,
        long.candidates.x,
        trained.helping,
        trained.press,
        _slopes(pinn, trained.weight_steps, errors, x, functions),
        _measures(model, estimated.estimate),
        trained.unknowns,
        trained.damping,
        trained.decrease,
        dict(stages.seconds),
    )


def _read(model: Any) -> tuple[Pinn, np.ndarray]:
    if hasattr(model, "pinn") and hasattr(model, "train_x"):
        return model.pinn, model.train_x
    if isinstance(model, Pinn):
        return model, model.training_points
    from pinnfluence.models.deepxde.reader import from_deepxde  # DeepXDE takes seconds to import

    pinn = from_deepxde(model)
    return pinn, pinn.training_points


def _errors(
    estimated: Estimated,
    terms: Sequence[str],
    errors: Mapping[str, np.ndarray],
    x: np.ndarray,
    quantities: Quantities,
) -> dict[str, QuantityError]:
    estimate = estimated.estimate
    pinn, best = estimate.pinn, estimate.best.step
    values = evaluate(pinn, x, quantities)
    others = [changes(pinn, other - best, x, quantities) for other in estimate.alternatives]
    found = {}
    for number, (name, error) in enumerate(errors.items()):
        norm, worst = max(float(np.linalg.norm(error)), 1e-300), int(np.argmax(np.abs(error)))
        shares = estimated.term_shares[:, number]
        total = float(shares.sum()) or 1.0
        sizes = [
            max(float(np.linalg.norm(v)), 1e-300) for v in (values[name] + error, values[name])
        ]
        found[name] = QuantityError(
            relative=norm / sizes[0],
            least=norm / max(sizes),
            rms=norm / len(x) ** 0.5,
            largest=float(error[worst]),
            place=tuple(float(c) for c in x[worst]),
            unexplained=estimate.unexplained,
            by_damping=max((float(np.linalg.norm(o[name])) / norm for o in others), default=0.0),
            by_points=float(estimated.spread[number]) / norm,
            terms={term: float(part) / total for term, part in zip(terms, shares, strict=True)},
        )
    return found


def _slopes(
    pinn: Pinn,
    steps: Mapping[str, np.ndarray],
    errors: Mapping[str, np.ndarray],
    x: np.ndarray,
    quantities: Quantities,
) -> dict[str, dict[str, float]]:
    """``d log |error| / d log c_k`` by quantity and loss term."""
    by_term = {
        term: error_slopes(dict(errors), changes(pinn, step, x, quantities))
        for term, step in steps.items()
    }
    return {name: {term: found[name] for term, found in by_term.items()} for name in quantities}


def _terms(training: PointLoss, found: Press, fresh: PointLoss) -> dict[str, TermLoss]:
    own, new = training.term_losses(), fresh.term_losses()
    return {name: TermLoss(own[name], found.losses[name], new[name]) for name in own}


def _measures(model: Any, estimate: ErrorEstimate) -> dict[str, tuple[float, float]]:
    problem = getattr(model, "problem", None)
    if problem is None or problem.measures is None:
        return {}
    before = problem.measures(model.fields)
    after = problem.measures(
        replace(model, pinn=corrected(estimate.pinn, estimate.best.step)).fields
    )
    return {name: (before[name], after[name]) for name in before}
