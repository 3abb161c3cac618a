"""Levenberg-Marquardt with geodesic acceleration: damped Gauss-Newton steps on a PINN's loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.linalg import LinAlgError
from torch import Tensor

from pinnfluence.curvature.inverse.cholesky import damped_solver
from pinnfluence.curvature.operators import GaussNewton
from pinnfluence.loss.differentiators.per_sample import flat_gradient, leaves
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.devices import float64_array, tensor_like
from pinnfluence.runtime.executor import BATCH_SIZE, Executor

MAX_TRIES = 20
"""Increases of the damping in one iteration before the search gives up."""

DIFFERENCE = 0.1
"""Part of a step over which the second derivative along it is taken by central differences."""

LARGEST_ACCELERATION = 0.75
"""Twice the acceleration over the step, above which the step is held to be too long."""


class LevenbergMarquardt:
    """Minimises ``L(theta) = sum_k c_k / |S_k| sum_{i in S_k} r_k(z_i; theta)^2``.

    With ``s = (2 w)^1/2 r`` the loss is ``|s|^2 / 2`` and the Gauss-Newton matrix ``G = J^T J``, J
    the Jacobian of s. One iteration solves ``(G + damping I) v = -J^T s`` for the step and
    ``(G + damping I) a = -J^T s''`` for its acceleration, s'' the second derivative of s along v,
    and goes on to ``theta + v + a / 2`` if that lowers the loss. The acceleration bends the step
    along the narrow, curved valleys of such losses. The damping follows the ratio of the actual to
    the predicted decrease.

    Args:
        loss: L at the training points; theta is changed in place in its network.
        damping: of the first iteration.

    Source: Nielsen, Damping parameter in Marquardt's method, IMM-REP-1999-05; Transtrum and
    Sethna, Improvements to the Levenberg-Marquardt algorithm, arXiv 1201.5885.
    """

    def __init__(self, loss: Loss, damping: float = 1e-2) -> None:
        self.loss = loss
        self.damping, self.raise_by = damping, 2.0

    def state_dict(self) -> dict[str, Any]:
        """What must be kept, beside the network, to go on."""
        return {"damping": self.damping, "raise_by": self.raise_by}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state_dict``."""
        self.damping, self.raise_by = state["damping"], state["raise_by"]

    def step(self) -> bool:
        """One iteration; False, with everything as it was, if no step lowers the loss."""
        matrix = GaussNewton(self.loss, Executor()).dense()
        begin, before = self._theta(), self.state_dict()
        residuals = self._residuals()
        gradient = self._pull_back(residuals)
        loss = 0.5 * float(residuals @ residuals)
        for _ in range(MAX_TRIES):
            step = self._step(matrix, gradient, begin, residuals)
            if step is not None:
                self._move(begin, step[0] + step[1])
                moved = self._residuals()
                decrease = loss - 0.5 * float(moved @ moved)
                predicted = float(-step[0] @ (gradient + 0.5 * (matrix @ step[0])))
                if decrease > 0 and predicted > 0:
                    self.damping *= max(1 / 5, 1 - (2 * decrease / predicted - 1) ** 3)
                    self.raise_by = 2.0
                    return True
            self.damping *= self.raise_by
            self.raise_by *= 2
        self._move(begin, np.zeros_like(gradient))
        self.load_state_dict(before)
        return False

    def _step(
        self, matrix: np.ndarray, gradient: np.ndarray, begin: Tensor, residuals: Tensor
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """The step and half its acceleration, or None where the damping is too small for them."""
        try:
            solve = damped_solver(matrix, self.damping)
        except LinAlgError:
            return None
        velocity = -solve(gradient)
        ends = []
        for sign in (1, -1):
            self._move(begin, sign * DIFFERENCE * velocity)
            ends.append(self._residuals())
        second = (ends[0] - 2 * residuals + ends[1]) / DIFFERENCE**2
        self._move(begin, np.zeros_like(velocity))
        acceleration = -solve(self._pull_back(second))
        if 2 * np.linalg.norm(acceleration) > LARGEST_ACCELERATION * np.linalg.norm(velocity):
            return None
        return velocity, 0.5 * acceleration

    def _parameters(self) -> list[Tensor]:
        theta = self.loss.pinn.params
        return [p for name, p in self.loss.pinn.network.named_parameters() if name in theta]

    def _theta(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self._parameters()])

    def _move(self, begin: Tensor, step: np.ndarray) -> None:
        theta = begin + tensor_like(step, begin)
        parameters = self._parameters()
        parts = theta.split([p.numel() for p in parameters])
        with torch.no_grad():
            for p, part in zip(parameters, parts, strict=True):
                p.copy_(part.view_as(p))  # in place: the collocation holds views of them

    def _residuals(self) -> Tensor:
        """The scaled residuals s ``[n_residuals]``."""
        with torch.no_grad():
            chunks = self.loss.chunks(BATCH_SIZE)
            return torch.cat([chunk.scaled_residuals(chunk.pinn.params) for chunk in chunks])

    def _pull_back(self, vector: Tensor) -> np.ndarray:
        """``J^T vector`` for a vector of the size of the residuals, ``[n_params]``."""
        theta = leaves(self.loss.pinn.params)
        total, start = np.zeros(self.loss.pinn.n_params), 0
        for chunk in self.loss.chunks(BATCH_SIZE):
            residuals = chunk.scaled_residuals(theta)
            part = vector[start : start + len(residuals)]
            total += float64_array(flat_gradient(residuals @ part, theta.values()))
            start += len(residuals)
        return total
