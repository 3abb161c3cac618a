"""How wrong is a network, and where: an estimate from points that it was not trained on.

With fresh points, the loss L_f on them, its Gauss-Newton matrix G and gradient, the step

    d = -(G + damping I)^-1 grad L_f

is what training on these points would move the parameters by, to first order, and

    error(x) = grad f(x) . d   ~   f of the solution - f of the network

estimates the error of any quantity f: positive where the network is too low. The corrected field
``u + grad u . d`` is no network: it is linear in d. Where the equations are linear in u, the
estimate is exact up to what the tangent space of the network cannot represent; else a further step
of Newton's method, whose equations are linearised at the corrected field, takes what is left. What
the tangent space cannot represent is sought in that of a wider network, see ``estimate_error``.

The damping. An unfinished training leaves its error in the directions of least curvature, so the
damping must be far smaller than that of the scores. What is too small shows on a second,
independent set of fresh points: there, the equations' own loss of the corrected field is compared
with that of the network. The rule takes the damping at which it is least. No reference is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.linalg import LinAlgError

from pinnfluence.curvature.lanczos import Advance
from pinnfluence.diagnosis.corrected import corrected, is_correctable
from pinnfluence.diagnosis.factor import Inverse, SingularValues, inverse_of, is_small
from pinnfluence.diagnosis.fresh import FreshSets
from pinnfluence.diagnosis.held import is_held
from pinnfluence.diagnosis.leverage import leverage
from pinnfluence.diagnosis.point_loss import PointLoss
from pinnfluence.diagnosis.widened import widened
from pinnfluence.loss.pinn import Pinn

DECADES = 3
"""Between two dampings that are tried."""

LARGEST = 1e-3
"""The largest damping that is tried, as a part of the largest eigenvalue."""

NEAR = 4.0
"""Dampings whose loss on the second set is at most this many times the least are as good."""

SMALL_STEPS = 3
"""Steps of Newton's method at most, of a small network."""

LINEAR = 0.05
"""Part of the residuals up to which the equations' nonlinear terms count as none."""

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
    second set. n_steps: of Newton's method.
    """

    pinn: Pinn
    trials: tuple[Trial, ...]
    before: float
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
    def alternatives(self) -> list[np.ndarray]:
        """Steps with other dampings that fit the second set about as well, ``[n_params]`` each."""
        others = sorted((t for t in self.trials if t is not self.best), key=lambda t: t.loss)
        near = [trial.step for trial in others if trial.loss <= NEAR * self.best.loss]
        return near or [trial.step for trial in others[:1]]


@dataclass(frozen=True)
class NewtonStep:
    """The step of Newton's method that gave an estimate, and what each residual contributes to it.

    pinn: the network. fit: the loss of the first set of fresh points, of the field corrected by the
    step ``start`` (None: none). inverse: of its curvature. best: the trial that was taken.
    """

    pinn: Pinn
    fit: PointLoss
    inverse: Inverse
    start: np.ndarray | None
    best: Trial

    def contributions(self, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What each residual contributes to estimates ``direction . d``, and their variances.

        The contribution of row i is ``-(A (G + damping I)^-1 direction)_i s_i``; over all rows they
        add up to the estimate. With other fresh points it would come out differently; the
        infinitesimal jackknife estimates its variance: the sum of the squares of the contributions
        with the residuals of the corrected field in the place of s.

        Args:
            directions: gradients of quantities, ``[n_params, k]``.

        Returns:
            ``[n_rows, k]`` and ``[k]``.

        Source: Jaeckel, The infinitesimal jackknife, Bell Laboratories, 1972.
        """
        shares = np.zeros((self.fit.n_rows, directions.shape[1]))
        if not np.isfinite(self.best.part):
            return shares, np.zeros(directions.shape[1])
        Z = self.inverse.solve(directions, self.best.part)
        s = self.fit.residuals()
        left = self.fit.of(self.pinn).after(self.best.step)
        variances = np.zeros(directions.shape[1])
        for rows, block in self.fit.blocks():
            here = s[rows] if self.start is None else s[rows] - block @ self.start
            moved = block @ Z
            shares[rows] = -moved * here[:, None]
            variances += ((moved * left[rows, None]) ** 2).sum(0)
        free = max(1.0, len(s) - self.inverse.effective_parameters(self.best.part))
        return shares, variances * len(s) / free


def estimate_error(
    fresh: FreshSets, advance: Advance = lambda n: None
) -> tuple[ErrorEstimate, NewtonStep]:
    """The estimate from one set of fresh points, checked on a second one.

    Of a small network the residuals are balanced, see ``PointLoss.balanced``, unless that leaves
    more of the second set than the loss as it is; and further steps of Newton's method are taken
    while the estimate is not reliable and the last step has halved the loss of the second set. For
    larger ones these cost minutes, and brought nothing in any network of the zoo.

    A network that is nearly right has errors in thin layers and of kinds that few points see and
    no change of its own parameters explains. Where the estimate is still not reliable, and the
    equations are nearly linear over it, the points are drawn again by their leverage, and the
    network is ``widened``.

    Args:
        fresh: both sets.
        advance: receives the number of finished rows of Jacobians.
    """
    fit, check = fresh.fit.loss, fresh.check.loss
    pinn, before = fit.collocation.pinn, check.total()
    if not is_small(pinn):
        return _newton(fit, check, before, 1, advance)
    n_steps = SMALL_STEPS if is_correctable(pinn) else 1
    balanced = _newton(fit.balanced(), check, before, n_steps, advance)
    if balanced[0].unexplained <= RELIABLE:
        return balanced
    plain = _newton(fit, check, before, n_steps, advance)
    found = min(balanced, plain, key=lambda pair: pair[0].unexplained)
    wide, inverse = widened(pinn), plain[1].inverse
    if (
        found[0].unexplained <= RELIABLE
        or wide is None
        or not isinstance(inverse, SingularValues)
        or bend(check, found[0].best.step) > LINEAR
        or not is_held(fit.of(wide))
    ):
        return found
    if fresh.redraw is not None:
        fresh = fresh.redraw(lambda loss: leverage(inverse, loss))
        if fresh.fit.collocation.missing or fresh.check.collocation.missing:
            return found
    fit, check = fresh.fit.loss.of(wide), fresh.check.loss.of(wide)
    wider = _newton(fit, check, check.total(), 1, advance)
    is_linear = bend(check, wider[0].best.step) <= LINEAR
    return wider if is_linear and wider[0].unexplained < found[0].unexplained else found


def bend(loss: PointLoss, d: np.ndarray) -> float:
    """What the equations' nonlinear terms add to the residuals after a step: a norm's part."""
    s = loss.residuals()
    size = max(float(np.linalg.norm(s)), 1e-300)
    return float(np.linalg.norm(loss.after(d) - s - loss.slopes(d, s))) / size


def _newton(
    fit: PointLoss, check: PointLoss, before: float, n_steps: int, advance: Advance
) -> tuple[ErrorEstimate, NewtonStep]:
    pinn = fit.collocation.pinn
    nothing = Trial(np.inf, before, np.zeros(pinn.n_params))
    found: tuple[ErrorEstimate, NewtonStep] | None = None
    for number in range(1, n_steps + 1):
        start = None if found is None else found[0].best.step
        here = fit if start is None else fit.of(corrected(pinn, start))
        inverse = inverse_of(here, start, advance)
        estimate = ErrorEstimate(pinn, (*trials(inverse, check), nothing), before, number)
        gain = 1.0 if found is None else estimate.best.loss / found[0].best.loss
        if found is None or gain < 1:
            found = estimate, NewtonStep(pinn, here, inverse, start, estimate.best)
        best = found[0].best
        if found[0].unexplained <= RELIABLE or (number > 1 and gain > 0.5) or best is nothing:
            break
        if number < n_steps and bend(check, best.step) <= LINEAR:  # a further step is the same
            break
    assert found is not None
    return found


class Check(Protocol):
    """A second set of rows, on which dampings are compared."""

    def after(self, d: np.ndarray) -> np.ndarray:
        """Its scaled residuals after a step of the parameters, ``[n_rows]``."""
        ...


def trials(inverse: Inverse, check: Check) -> list[Trial]:
    """From the least damping on, until the loss of the second set has risen twice in turn."""
    tried: list[Trial] = []
    for part in _parts(inverse.least):
        try:
            step = inverse.step(part)
        except LinAlgError:  # rounding hides the curvature at this damping
            continue
        s = check.after(step)
        loss = float(0.5 * (s @ s))
        tried.append(Trial(part, loss if np.isfinite(loss) else np.inf, step))
        least = min(trial.loss for trial in tried)
        if len(tried) > 2 and all(trial.loss > NEAR * least for trial in tried[-2:]):
            break
    return tried


def _parts(least: float) -> Iterator[float]:
    part = least
    while part <= LARGEST * 1.001:
        yield part
        part *= 10.0**DECADES
