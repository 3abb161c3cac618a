"""Retraining that converges: Newton's method, truncated, on the training loss in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pinnfluence.curvature.inverse import WHOLE, method_of
from pinnfluence.curvature.inverse.cholesky import without_rows
from pinnfluence.curvature.operators import GaussNewton
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor
from pinnfluence.validation.objective import Objective, with_parameters

MAX_ITERATIONS = 100
MAX_PRODUCTS = 60
"""Products with the Hessian in one iteration, before its step is taken as it is."""

MANY_PRODUCTS = 30
"""From so many on, the preconditioner is held to be out of date."""

REDUCTION = 1e-4
"""Of the first residual, in the squared norm of the preconditioner: at which a step is good."""

MAX_HALVINGS = 30
SUFFICIENT = 1e-4
"""Armijo's constant: the part of the predicted decrease that a step must reach."""

ROUNDING = 1e-9
"""Where a step lowers the loss by a smaller part, rounding hides it: the gradient decides."""

Precondition = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Retrained:
    """Parameters after retraining and how far it came.

    theta: ``[n_params]``. gradient_norm: ``||grad F||`` there, reached. n_iterations, n_products:
    Newton steps and products with the Hessian. converged: whether the norm is at most the stated.
    """

    theta: Tensor
    gradient_norm: float
    n_iterations: int
    n_products: int
    converged: bool


@dataclass(frozen=True)
class Progress:
    """Where a retraining is: parameters, ``||grad F||`` there, and the number of the iteration.

    anchor: the parameters at which the preconditioner was made.
    """

    theta: Tensor
    gradient_norm: float
    anchor: Tensor
    iteration: int


def retrain(
    objective: Objective,
    theta: Tensor,
    precondition: Precondition,
    tolerance: float,
    renew: Callable[[Tensor], Precondition] | None = None,
    reached: Callable[[Progress], object] = lambda progress: None,
    begin: Progress | None = None,
) -> Retrained:
    """Minimise an ``Objective`` from theta until ``||grad F|| <= tolerance``.

    Newton's method: each step solves ``H p = -grad F`` by conjugate gradients, preconditioned with
    a damped Gauss-Newton matrix that was factored once; negative curvature ends the solve with
    what was found so far. Then the step is halved until the loss falls enough. Where a solve took
    many products, ``renew`` gives the matrix at the parameters that were reached. ``reached`` is
    receives each iteration; what it received last, given as ``begin`` with its theta and the
    preconditioner at its anchor, makes the way go on to the same bytes.

    Source: Nocedal and Wright, Numerical Optimization, 2nd edition, algorithm 7.1.
    """
    n_products, anchor = 0, begin.anchor if begin else theta
    for iteration in range(begin.iteration if begin else 0, MAX_ITERATIONS + 1):
        loss, graph, at = objective.gradient(theta)
        gradient = graph.detach()
        norm = float(gradient.norm())
        reached(Progress(theta, norm, anchor, iteration))
        if norm <= tolerance or iteration == MAX_ITERATIONS or not np.isfinite(norm):
            break

        def product(vector: Tensor, graph: Tensor = graph, at: Tensor = at) -> Tensor:
            return objective.product(graph, at, vector)

        step, n = _solve(product, -gradient, precondition)
        n_products += n
        moved = _search(objective, theta, loss, step, float(gradient @ step))
        if moved is None:
            moved = theta + step
            if not float(objective.gradient(moved)[1].detach().norm()) < norm:
                break
        theta = moved
        if n >= MANY_PRODUCTS and renew is not None:
            precondition, anchor = renew(theta), theta
    return Retrained(theta, norm, iteration, n_products, norm <= tolerance)


def _solve(
    product: Callable[[Tensor], Tensor], right: Tensor, precondition: Precondition
) -> tuple[Tensor, int]:
    """Preconditioned conjugate gradients on ``H p = right``: p and the number of products."""
    step, residual = torch.zeros_like(right), right
    direction = conditioned = precondition(residual)
    first = size = float(residual @ conditioned)
    for n in range(1, MAX_PRODUCTS + 1):
        bent = product(direction)
        curvature = float(direction @ bent)
        if curvature <= 0:
            return (conditioned if n == 1 else step), n
        step = step + size / curvature * direction
        residual = residual - size / curvature * bent
        conditioned = precondition(residual)
        before, size = size, float(residual @ conditioned)
        if size <= REDUCTION * first:
            break
        direction = conditioned + size / before * direction
    return step, n


def _search(
    objective: Objective, theta: Tensor, loss: float, step: Tensor, slope: float
) -> Tensor | None:
    """The first of theta + step, + step / 2, ... at which the loss falls enough, or None."""
    length = 1.0
    if -slope <= ROUNDING * loss:
        return None
    for _ in range(MAX_HALVINGS):
        moved = theta + length * step
        if objective.value(moved) <= loss + SUFFICIENT * length * slope:
            return moved
        length /= 2
    return None


class Preconditioner:
    """``(G + 2 mu I)^-1`` of all training points at one theta, and without some of them.

    G is the Gauss-Newton matrix under the objective's weights, with its weight decay. Removing
    points takes ``G - U^T U`` with their few rows U, whose inverse costs a solve with U (Woodbury).

    Args:
        objective: of all training points.
        theta: where G is taken, ``[n_params]``.
    """

    def __init__(self, objective: Objective, theta: Tensor) -> None:
        self._objective = objective
        self._pinn = with_parameters(objective.loss.pinn, theta)
        matrix = self._matrix(objective.loss)
        whole = method_of(WHOLE, matrix, exact=True)(matrix)
        whole.fit()
        least = float(np.finfo(float).eps) * len(theta) * whole.largest
        damping = 2 * objective.proximal + objective.loss.weight_decay
        self._inverse = whole.at(max(damping, least))

    def _matrix(self, loss: Loss) -> GaussNewton:
        here = replace(loss.collocation, pinn=self._pinn)
        return GaussNewton(replace(loss, collocation=here), Executor())

    def __call__(self, vector: Tensor) -> Tensor:
        return torch.as_tensor(self._inverse.solve(vector.numpy()[:, None])[:, 0])

    def without(self, points: np.ndarray) -> Precondition:
        """The same for the objective without some training points, by their indices."""
        rows = self._matrix(self._objective.loss.subset(np.sort(points))).rows()
        solve = without_rows(self._inverse.solve, rows)
        return lambda vector: torch.as_tensor(solve(vector.numpy()[:, None])[:, 0])
