"""The strategy ``influence``: points that together leave the least for others to say.

**The residual that is left.** With the points F of the training, chosen ones C added to them move
the parameters by

    delta = -(A_F^T A_F + A_C^T A_C + damping I)^-1 A_C^T s_C,

to first order, with scaled residuals s and their rows A, weighted as in the training to come. It
changes the residual of any other candidate i to ``s_i + A_i delta``: the influence of the chosen
points on it. C is chosen one point after another, each the candidate whose residual is then the
largest. So a neighbour of a chosen point, whose residual the training removes along with the
point's own, is not chosen: of the largest residuals themselves (``rar``) most lie in one cluster.
The damping is near rounding, as a training has none; with it the choice is the f-greedy one of
interpolation points (see ``influence.selection.residual_left``).

**The error of a quantity.** With a quantity of one's own the choice is that by which its estimated
error falls most. The step d of a diagnosis (see ``diagnosis.error_estimate``) estimates from fresh
points how far the parameters are from those of the solution. With delta the step of a training on F
and C, ``grad f . (d - delta)`` is what is left of the error of a number f, and each chosen
candidate the one with which the sum of its squares is least. Far from a solution one linear step
says nothing about the error: where the estimate leaves more than ``RELIABLE`` of the residuals at
an independent set of fresh points, the choice is that of the largest residual that is left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.linalg import cholesky, solve_triangular

from pinnfluence.diagnosis.error_estimate import RELIABLE, Trial, estimate_error
from pinnfluence.diagnosis.fresh import FreshSets, draw_sets
from pinnfluence.diagnosis.new_points import squared_error
from pinnfluence.diagnosis.quantities import quantities_of
from pinnfluence.errors import InputError
from pinnfluence.field.module_call import copied
from pinnfluence.influence.point_rows import PointRows
from pinnfluence.influence.quantity import Quantity
from pinnfluence.influence.selection import Columns, Response, residual_left, select
from pinnfluence.influence.target import Target
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation, Pinn
from pinnfluence.models.deepxde.drawing import Draw
from pinnfluence.runtime.executor import BATCH_SIZE

N_FRESH = 1000
"""Fresh points of the estimate; another half as many check it."""

LEAST = 1e-10
"""Of the damping, as a part of the largest eigenvalue."""


@dataclass(frozen=True)
class ByInfluence:
    """Which candidates to choose by their influence on each other, or on a quantity's error.

    fresh: draws points as the training drew them, with those of the conditions. quantity: whose
    error it is, as of ``Influence.scores``, at the points ``at`` ``[n, n_inputs]``; with weights
    ``[n]`` that of the number ``sum_i weights_i f(x_i)``, such as an integral.
    """

    fresh: Draw
    quantity: Quantity | None = None
    at: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        if (self.quantity is None) != (self.at is None):
            raise InputError("expected a quantity and the points at= of its error, found one alone")

    def __call__(
        self, pinn: Pinn, points: np.ndarray, candidates: np.ndarray, n: int, seed: int
    ) -> tuple[np.ndarray, int | None]:
        """Indices of at most n candidates; and how many lower the error of a quantity, if any.

        Args:
            points: those that stay, ``[n_kept, n_inputs]``.
            candidates: ``[n_candidates, n_inputs]``.

        Raises:
            InputError: a quantity, and a loss term without fresh points.
        """
        if pinn.like.dtype != torch.float64:
            pinn = replace(pinn, network=copied(pinn.network).to("cpu", torch.float64))
        places = pinn.at(points), pinn.at(candidates)
        weights = _weights(pinn, *places, n)
        kept, new = (PointRows.of(Loss(at, weights), BATCH_SIZE) for at in places)
        best = None if self.quantity is None else self._estimate(pinn, seed)
        if best is None:
            return largest_left(kept, new, n), None if self.quantity is None else 0
        assert self.quantity is not None
        assert self.at is not None
        wanted = quantities_of(pinn, {"the quantity": self.quantity}, self.at)
        target = squared_error(pinn, best.step, wanted, self.at, self.weights)
        damping = max(best.part, LEAST) * largest_eigenvalue(kept, new, n)
        chosen = lowering(kept, new, target, damping, n)
        return chosen, len(chosen)

    def _estimate(self, pinn: Pinn, seed: int) -> Trial | None:
        """The estimate of the error, if it is reliable."""
        seeds = np.random.default_rng(seed).integers(2**32, size=2).tolist()
        training = None if pinn.training is None else pinn.at(pinn.training.x)
        sets = FreshSets(*draw_sets(pinn, self.fresh, (N_FRESH, N_FRESH // 2), seeds, training))
        if missing := sets.fit.collocation.missing:
            raise InputError(
                f"no fresh point for loss term {', '.join(missing)}, which estimating the "
                "error needs: expected another strategy than influence, or no quantity"
            )
        estimate = estimate_error(sets)[0]
        reliable = estimate.unexplained <= RELIABLE and np.isfinite(estimate.best.part)
        return estimate.best if reliable else None


def _weights(pinn: Pinn, kept: Collocation, new: Collocation, n: int) -> dict[str, float]:
    """``c_k / |S_k|`` of the training to come, if a term acts on all candidates or on none."""
    there, more = kept.term_rows(), new.term_rows()
    return {
        k: pinn.loss_weights.get(k, 1.0) / max(1, len(there[k]) + n * (len(more[k]) > 0))
        for k in there
    }


def lowering(kept: PointRows, new: PointRows, target: Target, damping: float, n: int) -> np.ndarray:
    """The greedy choice of n candidates that lower a sum of squares.

    The kept points are trained on along with them.
    """
    assert target.values is not None
    inverse = DampedInverse(kept, damping)
    candidates, numbers = inverse.half(new.A), inverse.half(target.gradients)
    response = inverse.response(new, candidates, inverse.product(numbers, candidates))
    trained = replace(response, s=response.s - inverse.trained(candidates))
    values = target.values - inverse.trained(numbers)
    return select(trained, values, inverse.columns(candidates), n).points


def largest_left(kept: PointRows, new: PointRows, n: int) -> np.ndarray:
    """The greedy choice of n candidates, each the one of the largest residual that is left."""
    inverse = DampedInverse(kept, LEAST * largest_eigenvalue(kept, new, n))
    candidates = inverse.half(new.A)
    response = inverse.response(new, candidates, np.zeros((0, len(new.A))))
    return select(response, np.zeros(0), inverse.columns(candidates), n, residual_left).points


@dataclass(frozen=True)
class Half:
    """Rows U ``[n, n_params]`` and their half product H ``[k, n]`` with a ``DampedInverse``."""

    U: np.ndarray
    H: np.ndarray


class DampedInverse:
    """Products ``U P V^T`` of rows with ``P = (A^T A + damping I)^-1``, A of the kept points.

    With the Cholesky factor L of ``A^T A + damping I`` they are ``(L^-1 U^T)^T (L^-1 V^T)``. Where
    there are fewer rows than parameters L is that of ``A A^T + damping I``, and by Woodbury they
    are ``(U V^T - (L^-1 A U^T)^T (L^-1 A V^T)) / damping``: rounding leaves an error of about
    1e-16 / ``LEAST`` there, beside 1, the weight of a residual of its own.
    """

    def __init__(self, kept: PointRows, damping: float) -> None:
        A = kept.A
        self._rows, self._damping = (A if len(A) < A.shape[1] else None), damping
        gram = A.T @ A if self._rows is None else A @ A.T
        gram[np.diag_indices_from(gram)] += damping
        self._L = cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
        self._pull = self._solve(A.T @ kept.s if self._rows is None else kept.s)

    def half(self, U: np.ndarray) -> Half:
        """Rows ``[n, n_params]``, prepared for products."""
        return Half(U, self._solve(U.T if self._rows is None else self._rows @ U.T))

    def product(self, first: Half, second: Half) -> np.ndarray:
        """``U P V^T``."""
        inner: np.ndarray = first.H.T @ second.H
        return inner if self._rows is None else (first.U @ second.U.T - inner) / self._damping

    def trained(self, rows: Half) -> np.ndarray:
        """``U P A^T s``: what training on the kept points takes from numbers with gradients U."""
        taken: np.ndarray = rows.H.T @ self._pull
        return taken

    def columns(self, rows: Half) -> Columns:
        """Some columns of ``U P U^T``."""
        return lambda some: self.product(rows, Half(rows.U[some], rows.H[:, some]))

    def response(self, new: PointRows, rows: Half, products: np.ndarray) -> Response:
        """How candidates answer to each other."""
        leverages = replace(new, A=rows.H.T).leverages(rows.H)
        if self._rows is not None:
            own = new.leverages(new.A.T).matrices
            leverages = replace(leverages, matrices=(own - leverages.matrices) / self._damping)
        return Response(new.s, leverages, products)

    def _solve(self, right: np.ndarray) -> np.ndarray:
        solved: np.ndarray = solve_triangular(self._L, right, lower=True, check_finite=False)
        return solved


def largest_eigenvalue(kept: PointRows, new: PointRows, n: int) -> float:
    """About that of the Gauss-Newton matrix of the kept points and of n average candidates."""
    part = n / max(1, new.n)
    vector = np.random.default_rng(0).standard_normal((new.A.shape[1],))
    size = 0.0
    for _ in range(20):
        product = kept.A.T @ (kept.A @ vector) + part * (new.A.T @ (new.A @ vector))
        size = float(np.linalg.norm(product))
        vector = product / max(size, 1e-300)
    return size
