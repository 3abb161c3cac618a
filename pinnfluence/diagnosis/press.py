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
"""Residuals whose leverages are computed: all, or about that many: see ``_taken``."""

ROUNDING = 1e-12
"""Damping, as a part of the largest eigenvalue, that a Cholesky factor still resolves well."""

INTERPOLATED = 0.99
"""Leverage from which on a residual says nothing of what it would be without its point."""


@dataclass(frozen=True)
class Press:
    """Leverages of training points, and the loss between them that follows.

    rows: of the residuals that were taken, ``[n]``. leverage: of each, 0 to 1. losses: half the
    deleted squares by loss term; where some rows were taken, the loss times the ratio of deleted to
    own squares in these. interpolated: part of the rows whose leverage is above ``INTERPOLATED``.
    effective: effective number of parameters.
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
    n, taken = loss.n_rows, _taken(loss)
    h = np.zeros(n)
    for rows, block in loss.blocks():
        mine = block[taken[rows]]
        if len(mine):
            h[np.flatnonzero(taken[rows]) + rows.start] = np.einsum(
                "ij,ji->i", mine, inverse.solve(mine.T, part)
            )
    s = loss.residuals()
    kept = np.maximum(1 - h, np.finfo(float).eps)
    own, deleted = 0.5 * s**2, 0.5 * (s / kept) ** 2
    losses, interpolated = {}, 0.0
    for name, rows in loss.slices.items():
        here = np.arange(n)[rows][taken[rows]]
        ratio = float(deleted[here].sum()) / max(float(own[here].sum()), 1e-300)
        losses[name] = float(own[rows].sum()) * ratio
        if len(here):
            interpolated += float((h[here] > INTERPOLATED).mean()) * (rows.stop - rows.start) / n
    chosen = np.flatnonzero(taken)
    return Press(chosen, h[chosen], losses, interpolated, inverse.effective_parameters(part))


def _taken(loss: PointLoss) -> np.ndarray:
    """Which rows are taken, ``[n_rows]``: small terms whole, of the others as many of each."""
    sizes = sorted(rows.stop - rows.start for rows in loss.slices.values())
    most, left = MAX_ROWS, MAX_ROWS
    for number, size in enumerate(sizes):
        most = -(-left // (len(sizes) - number))
        if size > most:
            break
        left -= size
    rng, taken = np.random.default_rng(0), np.ones(loss.n_rows, bool)
    for rows in loss.slices.values() if loss.n_rows > MAX_ROWS else ():
        left_out = rng.permutation(rows.stop - rows.start)[most:]
        taken[rows.start + left_out] = False
    return taken
