"""The strategy ``influence``: points that together lower the estimated error of the network most.

The step d of a diagnosis (see ``diagnosis.error_estimate``) estimates from fresh points how far the
parameters are from those of the solution, and ``grad f . d`` how far a number f of the network is.
Training on the points that stay, F, and on chosen ones, C, moves the parameters by

    delta = -(A_F^T A_F + A_C^T A_C + damping I)^-1 (A_F^T s_F + A_C^T s_C),

to first order, with scaled residuals s and their rows A, weighted as in the training to come. What
is left of the error at points x of the domain is ``grad f(x) . (d - delta)``. C is chosen one point
after another, each the one with which the sum of its squares is least. A neighbour of a chosen
point then adds little, so no cluster is chosen, and a large residual far from where the error comes
from is left alone.

Far from a solution one linear step says nothing about the error. Where the estimate leaves more
than ``RELIABLE`` of the residuals at an independent set of fresh points, no candidate is chosen,
and the strategy falls back to ``rard``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve

from pinnfluence.diagnosis.error_estimate import RELIABLE, estimate_error
from pinnfluence.diagnosis.fresh import draw
from pinnfluence.diagnosis.new_points import relative_error, squared_error
from pinnfluence.diagnosis.point_loss import PointLoss
from pinnfluence.diagnosis.quantities import quantities_of
from pinnfluence.errors import InputError
from pinnfluence.influence.quantity import Quantity
from pinnfluence.influence.selection import Response, select, slots
from pinnfluence.influence.target import Target
from pinnfluence.loss.pinn import Collocation, Pinn
from pinnfluence.models.deepxde.drawing import Draw

N_FRESH = 1000
"""Fresh points of the estimate; another half as many check it."""

N_PLACES = 300
"""Points at which the error is to fall."""

LEAST = 1e-12
"""The damping is that of the estimate, but at least this part of the largest eigenvalue."""


@dataclass(frozen=True)
class ByInfluence:
    """Which candidates would lower an estimated squared error most.

    fresh: draws points as the training drew them, with those of the conditions. inside: draws
    points inside the domain. quantity: whose error it is, as of ``Influence.scores``, at the points
    ``at`` ``[n, n_inputs]``; with weights ``[n]`` that of the number ``sum_i weights_i f(x_i)``,
    such as an integral. Without a quantity it is the error of all outputs over the domain, each
    relative to its size.
    """

    fresh: Draw
    inside: Draw
    quantity: Quantity | None = None
    at: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        if (self.quantity is None) != (self.at is None):
            raise InputError("expected a quantity and the points at= of its error, found one alone")

    def __call__(
        self, pinn: Pinn, points: np.ndarray, candidates: np.ndarray, n: int, seed: int
    ) -> np.ndarray:
        """Indices of at most n candidates, the most helpful one first; none without an estimate.

        Args:
            points: those that stay, ``[n_kept, n_inputs]``.
            candidates: ``[n_candidates, n_inputs]``.

        Raises:
            InputError: a loss term without fresh points.
        """
        if pinn.like.dtype != torch.float64:
            pinn = replace(pinn, network=copy.deepcopy(pinn.network).to("cpu", torch.float64))
        seeds = np.random.default_rng(seed).integers(2**32, size=3).tolist()
        sizes = (N_FRESH, N_FRESH // 2)
        fit, check = (
            draw(pinn, self.fresh, size, s).loss for size, s in zip(sizes, seeds, strict=False)
        )
        if missing := [k for k, rows in fit.slices.items() if rows.stop == rows.start]:
            raise InputError(
                f"no fresh point for loss term {', '.join(missing)}, which estimating the error "
                "needs: expected another strategy than influence"
            )
        estimate = estimate_error(fit, check)[0]
        best = estimate.best
        if estimate.unexplained > RELIABLE or not np.isfinite(best.part):
            return np.zeros(0, int)
        where = pinn.at(candidates)
        weights = _weights(pinn, pinn.at(points), where, n)
        kept, new = (_Rows.of(at, weights) for at in (pinn.at(points), where))
        part = max(best.part, LEAST)
        damping = part * max(kept.largest(), new.largest() * n / len(candidates))
        target = self._target(pinn, best.step, self.inside(N_PLACES, seeds[2]))
        return _chosen(kept, new, target, damping, n)

    def _target(self, pinn: Pinn, step: np.ndarray, x: np.ndarray) -> Target:
        """The squared error that shall fall, from the step of the estimate."""
        if self.quantity is None or self.at is None:
            return relative_error(pinn, step, quantities_of(pinn, None, x), x)
        wanted = quantities_of(pinn, {"the quantity": self.quantity}, self.at)
        return squared_error(pinn, step, wanted, self.at, self.weights)


@dataclass(frozen=True)
class _Rows:
    """Scaled residuals s ``[n_rows]`` and their rows A ``[n_rows, n_params]``, point by point."""

    point: np.ndarray
    s: np.ndarray
    A: np.ndarray

    @classmethod
    def of(cls, where: Collocation, weights: Mapping[str, float]) -> _Rows:
        rows = where.term_rows()
        loss = PointLoss(where, {k: np.full(len(rows[k]), weights[k]) for k in rows})
        order = np.argsort(loss.points, kind="stable")
        return cls(loss.points[order], loss.residuals()[order], loss.jacobian()[order])

    def largest(self) -> float:
        """About the largest eigenvalue of ``A^T A``, by power iteration."""
        vector = np.random.default_rng(0).standard_normal(len(self.A.T))
        size = 0.0
        for _ in range(20):
            product: np.ndarray = self.A.T @ (self.A @ vector)
            size = float(np.linalg.norm(product))
            vector = product / max(size, 1e-300)
        return size


def _weights(pinn: Pinn, kept: Collocation, new: Collocation, n: int) -> dict[str, float]:
    """``c_k / |S_k|`` of the training to come, if a term acts on all candidates or on none."""
    there, more = kept.term_rows(), new.term_rows()
    return {
        k: pinn.loss_weights.get(k, 1.0) / max(1, len(there[k]) + n * (len(more[k]) > 0))
        for k in there
    }


def _chosen(kept: _Rows, new: _Rows, target: Target, damping: float, n: int) -> np.ndarray:
    """The greedy choice of n candidates beside the points that are kept."""
    assert target.values is not None
    G = kept.A.T @ kept.A
    G[np.diag_indices_from(G)] += damping
    factor = cho_factor(G, lower=True, overwrite_a=True, check_finite=False)

    def solve(vectors: np.ndarray) -> np.ndarray:
        found: np.ndarray = cho_solve(factor, vectors, check_finite=False)
        return found

    own = -solve(kept.A.T @ kept.s)
    products, solved = new.A @ solve(target.gradients.T), solve(new.A.T).T
    slot = slots(new.point)
    shape = (int(new.point.max()) + 1, int(slot.max()) + 1, new.A.shape[1])
    rows, columns = np.zeros(shape), np.zeros(shape)
    rows[new.point, slot], columns[new.point, slot] = new.A, solved
    leverages = rows @ columns.transpose(0, 2, 1)
    response = Response(new.point, new.s + new.A @ own, leverages, products.T)
    return select(
        response, target.values + target.gradients @ own, lambda rows: new.A @ solved[rows].T, n
    ).points
