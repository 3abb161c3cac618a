"""What adding points to the training would change, and which set of them would do most."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from torch import Tensor

from pinnfluence.curvature.inverse import Solve
from pinnfluence.curvature.recipe import Recipe
from pinnfluence.errors import InputError
from pinnfluence.influence.point_rows import PointRows
from pinnfluence.influence.selection import Response, Selection, select
from pinnfluence.influence.target import Target
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation, Pinn
from pinnfluence.runtime.calculation import calculations
from pinnfluence.runtime.devices import as_array
from pinnfluence.runtime.executor import Executor
from pinnfluence.storage.point_checks import check_points

BLOCK = 500
"""Candidates whose gradients ``[n_rows, n_params]`` are held at a time."""


@calculations
class Candidates:
    """The influence of adding points to the training: of each alone, and of sets of them.

    A point z joins with the loss terms that act on it, each with the weight w_k that the points of
    its term have, ``c_k / |S_k|``; all other weights stay, as in the influence of removing one.
    With its scaled residuals ``s = (2 w)^1/2 r(z)``, their rows ``U = (2 w)^1/2 grad r(z)`` and its
    leverage ``H = U (G + damping I)^-1 U^T`` the parameters move by (Woodbury)

        delta = -(G + U^T U + damping I)^-1 U^T s = -(G + damping I)^-1 U^T (I + H)^-1 s,

    and a number J of the network changes by ``grad J . delta``. That is the adjoint
    ``(G + damping I)^-1 grad J``, which all candidates share, times the gradient of the candidate's
    loss, divided by what the candidate's own curvature adds. POSITIVE: adding the point raises J.

    DeepXDE divides by the new number of points: ``c_k / (|S_k| + 1)`` for all points of the term.
    That is the same minimum with the weight ``c_k |S_k| / (|S_k| + 1)`` of the term, a change that
    all candidates with the same terms have in common; with one term there is none.

    Args:
        loss: at the candidates, with the weights of the training.
        solve: product with ``(G + damping I)^-1`` of the training.
        target: what is asked for.
        executor: whose batches are taken, and which counts finished candidates.

    Source: Cook and Weisberg, Residuals and Influence in Regression, 1982, section 2.2.
    """

    def __init__(self, loss: Loss, solve: Solve, target: Target, executor: Executor) -> None:
        self.target, self._loss, self._solve, self._executor = target, loss, solve, executor
        parts, terms = [], []
        if loss.collocation.n_residuals == 0:
            raise InputError("expected points on which a loss term acts, found none")
        for rows in self._blocks():
            parts.append(Response.of(rows, solve(rows.A.T), target.gradients))
            terms.append(rows.term)
            executor.advance(rows.n)
        self._response, self._terms = Response.joined(parts), np.concatenate(terms)

    @property
    def x(self) -> np.ndarray:
        """The candidates ``[n, n_inputs]``."""
        return self._loss.collocation.x

    @cached_property
    def changes(self) -> np.ndarray:
        """Change of the target by adding each candidate alone; NEGATIVE: the target falls.

        ``[n]``; of several numbers ``[n_targets, n]``.
        """
        response = self._response
        return _of_one(self.target.change(response.totals(response.parts())))

    def by_term(self) -> dict[str, np.ndarray]:
        """The part of each loss term of the candidates in ``changes``, to which they add up.

        0 where the term does not act on a candidate.
        """
        response = self._response
        by_row = response.parts()
        if self.target.values is not None:
            moves = response.totals(by_row)[:, response.point]
            by_row = (by_row * (2 * self.target.values[:, None] + moves)).sum(0)
        return {
            name: _of_one(response.totals(np.where(self._terms == number, by_row, 0.0)))
            for number, name in enumerate(self._loss.collocation.term_rows())
        }

    def select(self, n: int) -> Selection:
        """The n candidates that together do most, chosen one by one; see ``selection.select``.

        Of a target that is a sum of squares they lower it. Of numbers J they bring these to where
        adding all candidates would bring them: the squares are those of the difference. Fewer than
        n where no further one does that.

        Holds the rows of all candidates, ``8 n_rows n_params`` bytes.

        Raises:
            InputError: n below 1 or above the number of candidates.
        """
        if not 1 <= n <= len(self._loss):
            raise InputError(f"expected from 1 to {len(self._loss)} candidates, found {n}")
        A = np.concatenate([rows.A for rows in self._blocks()])
        values = self.target.values
        if values is None:
            values = -self.target.gradients @ self._step_of_all(A)
        return select(self._response, values, lambda rows: A @ self._solve(A[rows].T), n)

    def _step_of_all(self, A: np.ndarray) -> np.ndarray:
        """Step of the parameters when all candidates join, ``[n_params]``."""
        s, n_params = self._response.s, A.shape[1]
        if len(A) > n_params:
            M = np.eye(n_params) + self._solve(A.T @ A)
            step: np.ndarray = -np.linalg.solve(M, self._solve(A.T @ s[:, None]))[:, 0]
            return step
        M = np.eye(len(A)) + A @ self._solve(A.T)
        step = -self._solve(A.T @ np.linalg.solve(M, s)[:, None])[:, 0]
        return step

    def _blocks(self) -> Iterator[PointRows]:
        for chunk in self._loss.chunks(BLOCK):
            yield PointRows.of(chunk, self._executor.batch_size)


def _of_one(values: np.ndarray) -> np.ndarray:
    """``[1, n]`` as ``[n]``; anything else as it is."""
    return values[0] if values.ndim == 2 and len(values) == 1 else values


def check_recipe(recipe: Recipe) -> None:
    """Refuse a curvature in which a candidate's own has no place.

    Raises:
        InputError: another than ``gauss-newton``, or some of its eigenpairs.
    """
    if recipe.is_low_rank or recipe.curvature != "gauss-newton":
        raise InputError(
            f"candidates need curvature gauss-newton at rank full, found {recipe.name}: give "
            'recipe="gauss-newton"'
        )


def equations_at(pinn: Pinn, points: np.ndarray | Tensor | Pinn, what: str) -> Collocation:
    """The equations of a network at further points.

    Args:
        points: ``[n, n_inputs]``; or, of a network whose terms have points of their own (see
            ``torch_model``), the same network at further points of each term.
        what: the points are, for messages.

    Raises:
        InputError: points that do not fit; a network with other loss terms, or without points.
    """
    if not isinstance(points, Pinn):
        points = as_array(points)
        check_points(points, len(pinn.inputs), what)
        return pinn.at(points)
    if points.terms != pinn.terms:
        raise InputError(
            f"expected {what} points for the loss terms {', '.join(pinn.terms)}, found them for "
            f"{', '.join(points.terms)}"
        )
    if points.training is None:
        raise InputError(f"expected a Pinn with {what} points, found one without points")
    return Collocation(pinn, points.equations, points.training)
