"""How wrong is my network, where, and why: everything at once."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pinnfluence.diagnosis import report_text
from pinnfluence.diagnosis.corrected import corrected
from pinnfluence.diagnosis.error_estimate import ErrorEstimate
from pinnfluence.diagnosis.findings import Findings, QuantityError, TermLoss
from pinnfluence.diagnosis.fresh import FreshPoints, fresh_sets
from pinnfluence.diagnosis.loss_weights import error_slopes
from pinnfluence.diagnosis.new_points import named, target_of
from pinnfluence.diagnosis.point_loss import PointLoss
from pinnfluence.diagnosis.press import Press
from pinnfluence.diagnosis.quantities import Quantities, changes, evaluate, quantities_of
from pinnfluence.diagnosis.sampler import places_of
from pinnfluence.diagnosis.stages import Estimated, LongStages
from pinnfluence.influence.network_and_points import network_and_points
from pinnfluence.influence.quantity import Quantity
from pinnfluence.influence.target import Target
from pinnfluence.loss.pinn import Pinn
from pinnfluence.runtime.calculation import calculation, calculations
from pinnfluence.runtime.progress import Stages


@calculations
class Report(Findings):
    """The findings of a diagnosis; ``text()`` says them in plain words."""

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

    def point_leverage(self) -> np.ndarray:
        """The largest leverage of each training point, ``[n_train]``; NaN where not computed."""
        terms = self.pinn.at(self.train_x).term_rows()
        order, largest = self.press.point_leverage(np.concatenate([*terms.values()]))
        leverage = np.full(len(self.train_x), np.nan)
        leverage[order] = largest
        return leverage

    def text(self) -> str:
        """The report in plain words, one screen."""
        return report_text.text(self)

    def to_dict(self) -> dict[str, Any]:
        """All numbers by name, for JSON; the verdict and the advice as they are printed."""
        estimate = self.estimate
        return {
            "verdict": report_text.verdict(self),
            "reliable": self.reliable,
            "errors": {
                name: vars(error)
                | {
                    "half_width": error.half_width,
                    "at_least": error.at_least,
                    "reliable": error.reliable,
                }
                for name, error in self.errors.items()
            },
            "terms": {name: vars(term) for name, term in self.terms.items()},
            "weights": self.slopes,
            "measures": {
                name: {"network": before, "corrected": after}
                for name, (before, after) in self.measures.items()
            },
            "unexplained": estimate.unexplained,
            "newton_steps": estimate.n_steps,
            "dampings": [
                {"part_of_largest_eigenvalue": trial.part, "loss": trial.loss}
                for trial in estimate.trials
                if np.isfinite(trial.part)
            ],
            "effective_parameters": self.press.effective,
            "interpolated": self.press.interpolated,
            "damping": self.damping,
            "decrease": self.decrease,
            "advice": report_text.advice(self),
            "new_points": named(self),
            "n_fresh": len(self.fresh_x),
            "n_train": len(self.train_x),
            "n_params": self.pinn.n_params,
        }

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text())}</pre>"


@calculation()
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
        stages: receives the stages, for progress bars.
        folder: where finished stages are kept, so that a stopped diagnosis goes on; None: nowhere.

    Raises:
        InputError: points that do not fit; no way to draw fresh ones; no such quantity.

    >>> report = pinnfluence.diagnose(model, seed=0)                     # doctest: +SKIP
    >>> print(report.text())                                             # doctest: +SKIP
    """
    pinn, train_x, stages = *_read(model), stages or Stages()
    sets = fresh_sets(model, pinn, train_x, fresh, fresh_x, seed)
    x = places_of(model, sets.check.x)
    functions = quantities_of(pinn, quantities, x)
    training = FreshPoints.all_of(pinn.at(train_x)).loss
    folder = Path(folder) if folder else None
    long = LongStages(training, sets, x, functions, noise or {}, stages, folder)
    return _report(model, train_x, long)


def _report(model: Any, train_x: np.ndarray, long: LongStages) -> Report:
    """What the long stages found, and what follows from it at once."""
    estimated, pinn, x = long.estimated(), long.pinn, long.x
    step = estimated.estimate.best.step
    errors = changes(pinn, step, x, long.quantities)
    trained = long.trained(errors, step)
    fit = long.fresh.fit.loss
    norms = np.array([max(float(np.linalg.norm(error)), 1e-300) for error in errors.values()])
    return Report(
        pinn,
        long.quantities,
        train_x,
        x,
        estimated.fresh_x,
        estimated.fresh_losses,
        estimated.estimate,
        _errors(estimated, list(fit.slices), errors, x, long.quantities),
        _terms(long.training, trained.press, fit),
        estimated.point_shares / norms,
        trained.holding / norms,
        long.candidates.x,
        trained.helping,
        trained.press,
        _slopes(pinn, trained.weight_steps, errors, x, long.quantities),
        _measures(model, estimated.estimate),
        trained.unknowns,
        trained.damping,
        trained.decrease,
        dict(long.stages.seconds),
    )


def _read(model: Any) -> tuple[Pinn, np.ndarray]:
    if hasattr(model, "pinn") and hasattr(model, "train_x"):
        return model.pinn, model.train_x
    return network_and_points(model, None)


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
    at_fresh = changes(pinn, best, estimated.fresh_x, quantities)
    others = [changes(pinn, other - best, x, quantities) for other in estimate.alternatives]
    places, found = np.concatenate([x, estimated.fresh_x]), {}
    for number, (name, error) in enumerate(errors.items()):
        norm = max(float(np.linalg.norm(error)), 1e-300)
        everywhere = np.concatenate([error, at_fresh[name]])
        worst = int(np.argmax(np.abs(everywhere)))
        shares = estimated.term_shares[:, number]
        total = float(shares.sum()) or 1.0
        sizes = [
            max(float(np.linalg.norm(v)), 1e-300) for v in (values[name] + error, values[name])
        ]
        found[name] = QuantityError(
            relative=norm / sizes[0],
            least=norm / max(sizes),
            rms=norm / len(x) ** 0.5,
            largest=float(everywhere[worst]),
            place=tuple(float(c) for c in places[worst]),
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
