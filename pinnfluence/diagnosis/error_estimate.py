"""How wrong is a network, and where: an estimate from points that it was not trained on.

With fresh points, the loss L_f on them, its Gauss-Newton matrix G and gradient, the step

    d = -(G + damping I)^-1 grad L_f

is what training on these points would move the parameters by, to first order, and

    error(x) = grad f(x) . d   ~   f of the solution - f of the network

estimates the error of any quantity f: positive where the network is too low. The corrected field
``u + grad u . d`` is no network: it is linear in d. Where the equations are linear in u, the
estimate is exact up to what the tangent space of the network cannot represent; else a further step
of Newton's method, whose equations are linearised at the corrected field, takes what is left.

The damping. An unfinished training leaves its error in the directions of least curvature, so the
damping must be far smaller than that of the scores. What is too small shows on a second,
independent set of fresh points: there, the equations' own loss of the corrected field is compared
with that of the network. The rule takes the damping at which it is least. No reference is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import LinAlgError

from pinnfluence.curvature.lanczos import Advance
from pinnfluence.diagnosis.corrected import corrected
from pinnfluence.diagnosis.factor import Inverse, inverse_of, is_small
from pinnfluence.diagnosis.point_loss import PointLoss
from pinnfluence.loss.pinn import Pinn

DECADES = 3
"""Between two dampings that are tried."""

LARGEST = 1e-3
"""The largest damping that is tried, as a part of the largest eigenvalue."""

NEAR = 4.0
"""Dampings whose loss on the second set is at most this many times the least are as good."""

RELIABLE = 0.2
"""Doubt up to which an estimate counts as reliable."""


@dataclass(frozen=True)
class Trial:
    """A damping, its step d ``[n_params]``, and the loss of the corrected field on the second set.

    part: the damping over the largest eigenvalue; infinite for no step at all.
    """

    part: float
    loss: float
    step: np.ndarray


@dataclass(frozen=True)
class ErrorEstimate:
    """An estimate of a network's error, and how far it is to be believed.

    pinn: the network. trials: the dampings that were tried. before: the loss of the network on the
    second set. fit: the loss from which the estimate came, at the step ``start`` (None: none).
    inverse: of its curvature. n_steps: of Newton's method.
    """

    pinn: Pinn
    trials: tuple[Trial, ...]
    before: float
    fit: PointLoss
    inverse: Inverse = field(repr=False)
    start: np.ndarray | None = None
    n_steps: int = 1

    @property
    def best(self) -> Trial:
        """The trial with the least loss on the second set."""
        return min(self.trials, key=lambda trial: trial.loss)

    @property
    def unexplained(self) -> float:
        """What the correction leaves of the residuals of the second set, 0 to 1: a norm's part."""
        return float(np.sqrt(self.best.loss / self.before)) if self.before > 0 else 0.0

    @property
    def corrected(self) -> Pinn:
        """The network with its errors corrected, as far as they are estimated."""
        return corrected(self.pinn, self.best.step)

    @property
    def alternatives(self) -> list[Pinn]:
        """Corrections with other dampings that fit the second set about as well."""
        others = sorted((t for t in self.trials if t is not self.best), key=lambda t: t.loss)
        near = [trial for trial in others if trial.loss <= NEAR * self.best.loss]
        return [corrected(self.pinn, trial.step) for trial in near or others[:1]]

    def contributions(self, directions: np.ndarray) -> np.ndarray:
        """What each residual of the first set contributes to estimates, ``[n_rows, k]``.

        ``-(A (G + damping I)^-1 direction)_i s_i``, whose sum over the rows is
        ``direction . d``.

        Args:
            directions: gradients of quantities, ``[n_params, k]``.
        """
        if not np.isfinite(self.best.part):
            return np.zeros((self.fit.n_rows, directions.shape[1]))
        Z = self.inverse.solve(directions, self.best.part)
        s, found = self.fit.residuals(), np.empty((self.fit.n_rows, directions.shape[1]))
        for rows, block in self.fit.blocks():
            here = s[rows] if self.start is None else s[rows] - block @ self.start
            found[rows] = -(block @ Z) * here[:, None]
        return found


def estimate_error(
    fit: PointLoss, check: PointLoss, n_steps: int = 3, advance: Advance = lambda n: None
) -> ErrorEstimate:
    """The estimate from one set of fresh points, checked on a second one.

    Of a small network the residuals are balanced, see ``PointLoss.balanced``, unless that leaves
    more of the second set than the loss as it is.

    Args:
        fit, check: the losses on the two sets.
        n_steps: of Newton's method at most; further ones are taken while the estimate is not
            reliable and the last step has halved the loss of the second set.
        advance: is told of finished rows of Jacobians.
    """
    pinn = fit.collocation.pinn
    before = check.total()
    if is_small(pinn):
        found = _newton(fit.balanced(), check, before, n_steps, advance)
        if found.unexplained <= RELIABLE:
            return found
        plain = _newton(fit, check, before, n_steps, advance)
        return min(found, plain, key=lambda estimate: estimate.best.loss)
    return _newton(fit, check, before, n_steps, advance)


def _newton(
    fit: PointLoss, check: PointLoss, before: float, n_steps: int, advance: Advance
) -> ErrorEstimate:
    pinn = fit.collocation.pinn
    nothing = Trial(np.inf, before, np.zeros(pinn.n_params))
    found: ErrorEstimate | None = None
    for number in range(1, n_steps + 1):
        start = None if found is None else found.best.step
        here = fit if start is None else fit.of(corrected(pinn, start))
        inverse = inverse_of(here, start, advance)
        trials = (*_trials(pinn, inverse, check), nothing)
        last = ErrorEstimate(pinn, trials, before, here, inverse, start, number)
        gain = 1.0 if found is None else last.best.loss / found.best.loss
        if found is None or gain < 1:
            found = last
        if found.unexplained <= RELIABLE or (number > 1 and gain > 0.5) or found.best is nothing:
            break
    assert found is not None
    return found


def _trials(pinn: Pinn, inverse: Inverse, check: PointLoss) -> list[Trial]:
    """From the least damping on, until the loss of the second set has risen twice in turn."""
    trials: list[Trial] = []
    for part in _parts(inverse.least):
        try:
            step = inverse.step(part)
        except LinAlgError:  # rounding hides the curvature at this damping
            continue
        loss = check.of(corrected(pinn, step)).total()
        trials.append(Trial(part, loss if np.isfinite(loss) else np.inf, step))
        least = min(trial.loss for trial in trials)
        if len(trials) > 2 and all(trial.loss > NEAR * least for trial in trials[-2:]):
            break
    return trials


def _parts(least: float) -> Iterator[float]:
    part = least
    while part <= LARGEST * 1.001:
        yield part
        part *= 10.0**DECADES
