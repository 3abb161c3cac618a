"""Held-out residuals without holding out: leverages and deleted residuals of training points.

With the rows A of the scaled residuals s of the training points (see ``PointLoss``), the leverage
of row i is ``h_i = A_i (A^T A + damping I)^-1 A_i^T``, and ``s_i / (1 - h_i)`` is what the residual
would be, to first order, had the network been trained without it. Half of the sum of their squares
(PRESS) estimates the loss at points that were not trained on; ``sum_i h_i``, the trace of
``(G + damping I)^-1 G``, is the effective number of parameters.

Where a network goes through its points, s and 1 - h are both near 0, and their quotient is what the
damping says: then PRESS is no estimate, and only its order over the points means something.

Source: Cook and Weisberg, Residuals and Influence in Regression, 1982; rescaled influence
functions, arXiv 2506.06656.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pinnfluence.curvature.lanczos import Advance
from pinnfluence.diagnosis.factor import (
    GramMatrix,
    Inverse,
    SingularValues,
    is_small,
)
from pinnfluence.diagnosis.point_loss import PointLoss
from pinnfluence.loss.pinn import Pinn

MAX_ROWS = 4000
"""Residuals whose leverages are computed: all, or that many at random."""

ROUNDING = 1e-12
"""Damping, as a part of the largest eigenvalue, that a Cholesky factor still resolves well."""

INTERPOLATED = 0.99
"""Leverage from which on a residual says nothing of what it would be without its point."""


@dataclass(frozen=True)
class Press:
    """Leverages of training points, and the loss between them that follows.

    rows: of the residuals that were taken, ``[n]``. leverage: of each, 0 to 1. losses: half their
    deleted squares by loss term, scaled up to all rows. interpolated: part of the rows whose
    leverage is above ``INTERPOLATED``. effective: effective number of parameters.
    """

    rows: np.ndarray
    leverage: np.ndarray
    losses: dict[str, float]
    interpolated: float
    effective: float

    def point_leverage(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The points that were taken and the largest leverage of each of them."""
        order, place = np.unique(points[self.rows], return_inverse=True)
        largest = np.zeros(len(order))
        np.maximum.at(largest, place, self.leverage)
        return order, largest


def training_inverse(loss: PointLoss, advance: Advance = lambda n: None) -> tuple[Inverse, float]:
    """Inverses of the training's curvature, and the damping under which it ended at a minimum.

    Singular values only where that damping is hidden by the rounding of the matrix.
    """
    gram = GramMatrix(loss, None, advance)
    part = stationary_part(loss.collocation.pinn, gram)
    if part > ROUNDING:
        return gram, part
    if is_small(loss.collocation.pinn):
        exact = SingularValues(loss)
        return exact, max(part, exact.least)
    return gram, gram.least


def stationary_part(pinn: Pinn, gram: GramMatrix) -> float:
    """The damping under which the parameters are a minimum, as a part of the largest eigenvalue.

    ``grad L + damping theta = 0`` in the norms: the weight decay that a training which ended here
    amounts to.
    """
    theta = np.sqrt(sum(float((p**2).sum()) for p in pinn.params.values()))
    return float(np.linalg.norm(gram.gradient)) / max(theta, 1e-300) / gram.largest


def press(loss: PointLoss, inverse: Inverse, part: float) -> Press:
    """Leverages and deleted residuals of a loss under the inverse of its own curvature."""
    n = loss.n_rows
    chosen = np.arange(n)
    if n > MAX_ROWS:
        chosen = np.sort(np.random.default_rng(0).choice(n, MAX_ROWS, replace=False))
    taken = np.zeros(n, bool)
    taken[chosen] = True
    h = np.zeros(n)
    for rows, block in loss.blocks():
        mine = block[taken[rows]]
        if len(mine):
            h[np.flatnonzero(taken[rows]) + rows.start] = np.einsum(
                "ij,ji->i", mine, inverse.solve(mine.T, part)
            )
    s = loss.residuals()
    kept = np.maximum(1 - h, np.finfo(float).eps)
    squares = np.where(taken, 0.5 * (s / kept) ** 2, 0.0)
    losses = {
        name: float(squares[rows].sum() * (rows.stop - rows.start) / max(1, taken[rows].sum()))
        for name, rows in loss.slices.items()
    }
    interpolated = float((h[chosen] > INTERPOLATED).mean())
    return Press(chosen, h[chosen], losses, interpolated, inverse.effective_parameters(part))
