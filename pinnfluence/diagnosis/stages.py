"""The two long stages of a diagnosis; what they gave is kept, so that a stopped one goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pinnfluence.curvature.lanczos import Advance
from pinnfluence.diagnosis.corrected import UNKNOWNS
from pinnfluence.diagnosis.error_estimate import ErrorEstimate, Trial, estimate_error
from pinnfluence.diagnosis.fresh import FreshSets
from pinnfluence.diagnosis.inverse_parameters import Unknowns, unknowns_of
from pinnfluence.diagnosis.loss_weights import weight_steps
from pinnfluence.diagnosis.new_points import N_CANDIDATES, decreases, relative_error, some
from pinnfluence.diagnosis.point_loss import PointLoss
from pinnfluence.diagnosis.press import ROUNDING, Press, press, training_inverse
from pinnfluence.diagnosis.quantities import Quantities, as_equation, changes, sum_gradients
from pinnfluence.influence.identity import NOT_ON_THE_WAY, circumstances, content_hash
from pinnfluence.loss.fingerprint import fingerprint
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation, Pinn
from pinnfluence.runtime.progress import Stages
from pinnfluence.storage.point_checks import among
from pinnfluence.storage.stage_store import CLOSED, Saved, StageStore

N_SIGNS = 8
"""Random sums over the points: how much the map of an error depends on the fresh ones."""

ESTIMATED_ARRAYS = ("fresh_x", "fresh_losses", "term_shares", "point_shares", "spread")
"""What is kept of ``Estimated``, beside the estimate."""

UNKNOWN_ARRAYS = ("values", "determined", "sensitivities")
"""What is kept of the unknowns, beside their covariance."""

ROOMS_LEFT_OUT = tuple(room for room in NOT_ON_THE_WAY if room != "diagnosis")


@dataclass(frozen=True)
class Estimated:
    """The estimate of the error and where it comes from.

    term_shares: what each loss term contributes to the norm of each error, in its unit,
    ``[n_terms, n_quantities]``. fresh_x, fresh_losses: the fresh points of the estimate,
    ``[n_fresh, n_inputs]``, and ``sum_k c_k r_k^2`` there, ``[n_fresh]``. point_shares: what each
    of them contributes, ``[n_fresh, n_quantities]``. spread: standard deviation of each error over
    draws of the fresh points, a norm over x.
    """

    estimate: ErrorEstimate
    fresh_x: np.ndarray
    fresh_losses: np.ndarray
    term_shares: np.ndarray
    point_shares: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class Trained:
    """What the curvature of the training's own loss says.

    weight_steps: ``d theta / d log c_k`` by loss term, ``[n_params]``. holding: by how much the
    norm of each error falls when a training point is removed, ``[n_train, n_quantities]``.
    helping: part of the squared error that adding a candidate takes away, ``[n_candidates]``.
    damping: under which the training ended at a minimum. decrease: part of the loss that one
    Gauss-Newton step would take away.
    """

    press: Press
    weight_steps: dict[str, np.ndarray]
    holding: np.ndarray
    helping: np.ndarray
    damping: float
    decrease: float
    unknowns: Unknowns | None


@dataclass(frozen=True)
class LongStages:
    """The losses, points and quantities of a diagnosis; where progress and results go.

    training: the loss at the training points. fresh: two sets of fresh points. x: points at which
    errors are looked at, ``[n, n_inputs]``. noise: see ``unknowns_of``.
    """

    training: PointLoss
    fresh: FreshSets
    x: np.ndarray
    quantities: Quantities
    noise: Mapping[str, float]
    stages: Stages
    folder: Path | None = None

    @cached_property
    def pinn(self) -> Pinn:
        """The network."""
        return self.training.collocation.pinn

    @cached_property
    def store(self) -> StageStore:
        """Where finished stages are; the key is a hash of all that determines what they find."""
        if self.folder is None:
            return CLOSED
        pinn = self.pinn
        facts = {"noise": dict(self.noise), **circumstances(pinn.like, 1, ROOMS_LEFT_OUT)}
        arrays = [p.cpu().numpy() for p in (*pinn.params.values(), *pinn.constants.values())]
        for loss in (self.training, self.fresh.fit.loss, self.fresh.check.loss):
            arrays += [*fingerprint(loss.collocation), *loss.weights.values()]
        arrays += fingerprint(pinn.at(self.x, [as_equation(self.quantities)]))
        return StageStore(self.folder, content_hash(facts, arrays))

    def estimated(self) -> Estimated:
        """The estimate of the errors."""
        saved = self._kept("error_estimate", self.fresh.fit.collocation.n_residuals, self._estimate)
        arrays, facts = saved.arrays, saved.facts
        trials = zip(arrays["parts"], arrays["losses"], arrays["steps"], strict=True)
        estimate = ErrorEstimate(
            self.pinn,
            tuple(Trial(float(part), float(loss), step) for part, loss, step in trials),
            facts["before"],
            facts["n_steps"],
        )
        return Estimated(estimate, *(arrays[name] for name in ESTIMATED_ARRAYS))

    @cached_property
    def candidates(self) -> Collocation:
        """The fresh points of which it is asked how much each would help."""
        fit, trained = self.fresh.fit.collocation, self.training.collocation.x
        fresh = np.flatnonzero(~among(fit.x, trained))
        return fit.subset(fresh[some(len(fresh), N_CANDIDATES)])

    def trained(self, errors: Mapping[str, np.ndarray], step: np.ndarray) -> Trained:
        """What the training's own curvature says.

        Args:
            errors: estimated ones at the points, ``[n]`` by quantity. step: of the estimate.
        """
        saved = self._kept(
            "training_points",
            self.training.n_rows,
            lambda advance: self._train(self._directions(errors), step, advance),
        )
        arrays, facts = saved.arrays, saved.facts
        names = list(self.training.slices)
        unknowns = None
        if "unknowns" in facts:
            own = {name: arrays[name] for name in UNKNOWN_ARRAYS}
            covariance = arrays.get("covariance")
            unknowns = Unknowns(tuple(facts["unknowns"]), **own, covariance=covariance)
        return Trained(
            Press(
                arrays["rows"],
                arrays["leverage"],
                dict(zip(names, arrays["press"].tolist(), strict=True)),
                facts["interpolated"],
                facts["effective"],
            ),
            dict(zip(names, arrays["weight_steps"].T, strict=True)),
            arrays["holding"],
            arrays["helping"],
            facts["damping"],
            facts["decrease"],
            unknowns,
        )

    def _kept(self, stage: str, total: int, compute: Callable[[Advance], Saved]) -> Saved:
        title = stage.replace("_", " ")
        if saved := self.store.load(stage):
            self.stages.kept(title)
            return saved
        with self.stages.stage(title, total) as advance:
            saved = compute(advance)
        self.store.save(stage, saved.arrays, saved.facts)
        return saved

    def _estimate(self, advance: Advance) -> Saved:
        estimate, step = estimate_error(self.fresh, advance)
        fit = step.fit.of(self.pinn)
        errors = changes(self.pinn, estimate.best.step, self.x, self.quantities)
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (len(self.x), N_SIGNS))
        weights = {n: np.column_stack([_unit(error), signs]) for n, error in errors.items()}
        gradients = sum_gradients(step.pinn, self.x, self.quantities, weights)
        shares, variances = step.contributions(np.concatenate(list(gradients.values()), 1))
        own = shares[:, :: 1 + N_SIGNS]
        spread = variances.reshape(len(errors), -1)[:, 1:].mean(1) ** 0.5
        arrays = {
            "parts": np.array([trial.part for trial in estimate.trials]),
            "losses": np.array([trial.loss for trial in estimate.trials]),
            "steps": np.stack([trial.step for trial in estimate.trials]),
            "fresh_x": fit.collocation.x,
            "fresh_losses": fit.unweighted().point_losses(),
            "term_shares": np.stack([own[rows].sum(0) for rows in fit.slices.values()]),
            "point_shares": _by_point(fit, own),
            "spread": spread,
        }
        return Saved(arrays, {"before": estimate.before, "n_steps": estimate.n_steps})

    def _train(self, directions: np.ndarray, step: np.ndarray, advance: Advance) -> Saved:
        loss = self.training
        inverse, part = training_inverse(loss, advance)
        found = press(loss, inverse, part)
        turned = weight_steps(loss, inverse, part)
        s = loss.residuals()
        left = loss.after(inverse.step(part))
        target = relative_error(self.pinn, step, self.quantities, self.x)
        training = Loss.of_training(loss.collocation)
        helping = decreases(self.candidates, training, lambda v: inverse.solve(v, part), target)
        Z, rows_holding = inverse.solve(directions, part), np.empty((len(s), directions.shape[1]))
        for rows, block in loss.blocks():
            rows_holding[rows] = (block @ Z) * s[rows, None]
        arrays = {
            "rows": found.rows,
            "leverage": found.leverage,
            "press": np.array(list(found.losses.values())),
            "weight_steps": np.stack(list(turned.values()), 1),
            "holding": _by_point(loss, rows_holding),
            "helping": helping,
        }
        facts: dict[str, Any] = {
            "interpolated": found.interpolated,
            "effective": found.effective,
            "damping": max(part, ROUNDING) * inverse.largest,
            "decrease": max(0.0, 1 - float(left @ left) / max(float(s @ s), 1e-300)),
        }
        if any(name.startswith(UNKNOWNS) for name in self.pinn.params):
            unknowns = unknowns_of(loss, inverse, part, self.noise)
            facts["unknowns"] = list(unknowns.names)
            arrays |= {name: getattr(unknowns, name) for name in UNKNOWN_ARRAYS}
            if unknowns.covariance is not None:
                arrays["covariance"] = unknowns.covariance
        return Saved(arrays, facts)

    def _directions(self, errors: Mapping[str, np.ndarray]) -> np.ndarray:
        """Gradients of the errors' norms by d, ``[n_params, n_quantities]``."""
        weights = {name: _unit(error)[:, None] for name, error in errors.items()}
        gradients = sum_gradients(self.pinn, self.x, self.quantities, weights)
        return np.concatenate(list(gradients.values()), 1)


def _unit(error: np.ndarray) -> np.ndarray:
    unit: np.ndarray = error / max(float(np.linalg.norm(error)), 1e-300)
    return unit


def _by_point(loss: PointLoss, rows: np.ndarray) -> np.ndarray:
    """Sums over the residuals of each point, ``[n_points, k]``."""
    found = np.zeros((len(loss.collocation.x), rows.shape[1]))
    np.add.at(found, loss.points, rows)
    return found
