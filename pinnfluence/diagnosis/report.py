"""How wrong is my network, where, and why: everything at once."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from pinnfluence.diagnosis import words
from pinnfluence.diagnosis.corrected import UNKNOWNS, corrected
from pinnfluence.diagnosis.error_estimate import RELIABLE, ErrorEstimate, estimate_error
from pinnfluence.diagnosis.fresh import FreshPoints, draw, everywhere, sampler_of, split
from pinnfluence.diagnosis.inverse_parameters import Unknowns, unknowns_of
from pinnfluence.diagnosis.loss_weights import error_slopes, weight_steps
from pinnfluence.diagnosis.point_loss import PointLoss, gradients
from pinnfluence.diagnosis.press import Press, press, training_inverse
from pinnfluence.errors import InputError
from pinnfluence.loss.pinn import Pinn
from pinnfluence.reference.comparison import predict
from pinnfluence.runtime.progress import Stages
from pinnfluence.storage.points import check_points

N_PLACES = 2000
"""Points at which errors are looked at."""

MOST_WORK = 5e12
"""Multiplications that the matrix of the fresh points may cost, which limits their number."""


@dataclass(frozen=True)
class OutputError:
    """The estimated error of one output.

    relative: its norm over that of the corrected output. rms, largest: in the output's unit.
    place: where it is largest. doubt: how far the estimate may be off, as a part of it. terms: part
    of it that each loss term contributes; they add up to 1.
    """

    relative: float
    rms: float
    largest: float
    place: tuple[float, ...]
    doubt: float
    terms: dict[str, float]

    @property
    def reliable(self) -> bool:
        """Whether the map of the error is to be believed, and not only that there is one."""
        return self.doubt <= RELIABLE

    @property
    def at_least(self) -> float:
        """What the relative error is at least."""
        return self.relative * (1 - min(self.doubt, 0.5))


@dataclass(frozen=True)
class TermLoss:
    """A loss term at the training's points, what leverages make of it, and at fresh points."""

    training: float
    press: float
    fresh: float


@dataclass(frozen=True)
class Report:
    """The diagnosis of a network; attributes hold the figures, ``text()`` says them in words.

    estimate: of the error. outputs, terms: by name. x, fresh_x: points at which errors were looked
    at, and that were drawn. press: of the training points. slopes: ``d log |error| / d log c_k`` by
    output and loss term. measures: of the network and corrected, by name. unknowns: of an inverse
    problem. decrease: part of the training's loss that a Gauss-Newton step would take away.
    """

    pinn: Pinn
    train_x: np.ndarray
    x: np.ndarray
    fresh_x: np.ndarray
    estimate: ErrorEstimate = field(repr=False)
    outputs: dict[str, OutputError]
    terms: dict[str, TermLoss]
    press: Press = field(repr=False)
    slopes: dict[str, dict[str, float]]
    measures: dict[str, tuple[float, float]]
    unknowns: Unknowns | None
    decrease: float
    seconds: dict[str, float]

    def error(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Estimated error ``solution - prediction`` at points ``[n, n_inputs]``, by output ``[n]``.

        >>> report.error(points)["u"]                                    # doctest: +SKIP
        """
        points = np.asarray(points)
        check_points(points, len(self.pinn.inputs), "given")
        return _difference(self._corrected, self.pinn, points)

    @cached_property
    def _corrected(self) -> Pinn:
        return self.estimate.corrected

    @property
    def reliable(self) -> bool:
        """Whether the estimate of every output is."""
        return all(output.reliable for output in self.outputs.values())

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
    fresh_x: np.ndarray | None = None,
    seed: int = 0,
    noise: Mapping[str, float] | None = None,
    stages: Stages | None = None,
) -> Report:
    """How wrong a trained network is, where, and why; no reference is needed.

    Args:
        model: a ``TrainedModel`` (see ``load_model``), a trained ``dde.Model``, or a ``Pinn`` with
            the points of its training.
        fresh: number of fresh points; default twice as many as were trained on, at least half as
            many as the network has parameters, and less where that takes too long.
        fresh_x: fresh points of your own ``[n, n_inputs]``, distributed as those of the training;
            needed where the model does not say how to draw some.
        seed: of the fresh points.
        noise: standard deviation of the measurements, by the loss term that compares with them:
            for the unknowns of an inverse problem.
        stages: is told of the stages, for progress bars.

    Raises:
        InputError: points that do not fit; no way to draw fresh ones.

    >>> report = pinnfluence.diagnose(model, seed=0)                     # doctest: +SKIP
    >>> print(report.text())                                             # doctest: +SKIP
    """
    pinn, train_x, stages = *_read(model), stages or Stages()
    sets = _fresh_sets(model, pinn, train_x, fresh, fresh_x, seed)
    fit, check = (points.loss(pinn) for points in sets)
    with stages.stage("error estimate", fit.n_rows) as advance:
        estimate = estimate_error(fit, check, advance=advance)
    x = _places(model, sets[1], seed)
    training = everywhere(pinn, train_x).loss(pinn)
    with stages.stage("training points", training.n_rows) as advance:
        inverse, part = training_inverse(training, advance)
        found = press(training, inverse, part, seed)
        turned = weight_steps(training, inverse, part)
        step, s = inverse.step(part), training.residuals()
        left = training.of(corrected(pinn, step)).total()
    errors = _difference(estimate.corrected, pinn, x)
    changes = {name: _difference(corrected(pinn, step), pinn, x) for name, step in turned.items()}
    slopes = {name: error_slopes(errors, moved) for name, moved in changes.items()}
    has_unknowns = any(name.startswith(UNKNOWNS) for name in pinn.params)
    return Report(
        pinn,
        train_x,
        x,
        sets[0].x,
        estimate,
        _outputs(estimate, errors, x),
        _terms(training, found, fit),
        found,
        {out: {term: slopes[term][out] for term in slopes} for out in pinn.outputs},
        _measures(model, estimate),
        unknowns_of(training, inverse, part, noise) if has_unknowns else None,
        max(0.0, 1 - left / max(0.5 * float(s @ s), 1e-300)),
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


def _fresh_sets(
    model: Any,
    pinn: Pinn,
    train_x: np.ndarray,
    n: int | None,
    given: np.ndarray | None,
    seed: int,
) -> tuple[FreshPoints, FreshPoints]:
    """A set for the estimate and one to check it, about half as many."""
    if given is not None:
        check_points(given, len(pinn.inputs), "fresh")
        sets = split(everywhere(pinn, given), seed)
    else:
        n = n or _n_fresh(pinn, train_x)
        sampler = sampler_of(model)
        sets = draw(pinn, sampler, n, 2 * seed), draw(pinn, sampler, n // 2, 2 * seed + 1)
    known = set(map(bytes, np.ascontiguousarray(train_x)))
    if given is not None and any(bytes(p) in known for p in np.ascontiguousarray(given)):
        raise InputError("expected fresh points, found some that were trained on: leave them out")
    for points in sets:
        if missing := [k for k, v in points.loss(pinn).slices.items() if v.stop == v.start]:
            raise InputError(
                f"no fresh point for loss term {', '.join(missing)}: give more with --fresh, or "
                "points of your own that have some"
            )
    return sets


def _n_fresh(pinn: Pinn, train_x: np.ndarray) -> int:
    rows_a_point = sum(map(len, pinn.at(train_x).term_rows().values())) / len(train_x)
    most = MOST_WORK / pinn.n_params**2 / rows_a_point
    return round(min(most, max(2 * len(train_x), pinn.n_params / 2, 1000)))


def _places(model: Any, checked: FreshPoints, seed: int) -> np.ndarray:
    """Points spread evenly over the domain; where nothing draws them, those of the second set."""
    try:
        return sampler_of(model, inside=True)(N_PLACES, seed + 1_000_003)
    except InputError:
        return checked.x


def _difference(end: Pinn, start: Pinn, x: np.ndarray) -> dict[str, np.ndarray]:
    values = [predict(pinn.network, x, start.outputs) for pinn in (end, start)]
    return {name: values[0][name] - values[1][name] for name in start.outputs}


def _outputs(
    estimate: ErrorEstimate, errors: Mapping[str, np.ndarray], x: np.ndarray
) -> dict[str, OutputError]:
    pinn = estimate.pinn
    values = predict(pinn.network, x, pinn.outputs)
    others = [_difference(other, estimate.corrected, x) for other in estimate.alternatives]
    norms = {name: float(np.linalg.norm(e)) for name, e in errors.items()}
    directions = gradients(pinn, x, {n: e / max(norms[n], 1e-300) for n, e in errors.items()})
    shares = estimate.contributions(np.stack(list(directions.values()), 1))
    found = {}
    for number, (name, error) in enumerate(errors.items()):
        norm, worst = max(norms[name], 1e-300), int(np.argmax(np.abs(error)))
        spread = max((float(np.linalg.norm(o[name])) / norm for o in others), default=0.0)
        parts = {t: float(shares[rows, number].sum()) for t, rows in estimate.fit.slices.items()}
        total = sum(parts.values()) or 1.0
        found[name] = OutputError(
            norm / max(float(np.linalg.norm(values[name] + error)), 1e-300),
            norm / len(x) ** 0.5,
            float(error[worst]),
            tuple(float(c) for c in x[worst]),
            max(estimate.unexplained, spread),
            {term: part / total for term, part in parts.items()},
        )
    return found


def _terms(training: PointLoss, found: Press, fresh: PointLoss) -> dict[str, TermLoss]:
    own, new = training.term_losses(), fresh.term_losses()
    return {name: TermLoss(own[name], found.losses[name], new[name]) for name in own}


def _measures(model: Any, estimate: ErrorEstimate) -> dict[str, tuple[float, float]]:
    problem = getattr(model, "problem", None)
    if problem is None or problem.measures is None:
        return {}
    before = problem.measures(model.fields)
    after = problem.measures(replace(model, pinn=estimate.corrected).fields)
    return {name: (before[name], after[name]) for name in before}
