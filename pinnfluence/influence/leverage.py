"""What a training point's own curvature does: residuals as they would be if it were gone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pinnfluence.curvature.inverse import Solve
from pinnfluence.influence.point_rows import PointRows
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor

BLOCK = 500
"""Training points whose gradients ``[n_rows, n_params]`` are held at a time."""


@dataclass(frozen=True)
class Leverage:
    """Leverage of training points, and what it makes of their residuals and their scores.

    residuals: deleted residuals by loss term, ``[n_k]`` where it acts. largest: of each point,
    between 0 and 1, ``[n_train]``. self_influence: ``Inf(l_i; z_i)``, ``[n_train]``. limit: what
    larger ones were taken as, because rounding hides them.
    """

    residuals: dict[str, np.ndarray]
    largest: np.ndarray
    self_influence: np.ndarray
    limit: float

    def summary(self) -> dict[str, float]:
        """Median, 95th percentile and maximum over the training points, and points at the limit."""
        median, p95, largest = np.percentile(self.largest, [50, 95, 100]).tolist()
        n_hidden = int((self.largest >= self.limit).sum())
        return {"median": median, "p95": p95, "largest": largest, "n_at_limit": n_hidden}


def leverage(loss: Loss, solve: Solve, limit: float, executor: Executor) -> Leverage:
    """Leverage of each training point under a damped Gauss-Newton matrix G.

    A point that is taken away takes its part of the curvature along. With its rows
    ``U = (2 w_k)^1/2 grad r_k`` and its leverage ``H = U (G + damping I)^-1 U^T`` (Woodbury),

        (G - U^T U + damping I)^-1 U^T s = (G + damping I)^-1 U^T (I - H)^-1 s,

    so that the scores of the curvature of the points that are left are those with the deleted
    residuals ``(2 w_k)^-1/2 ((I - H)^-1 s)_k`` in place of ``r_k = (2 w_k)^-1/2 s_k``. The largest
    leverage of a point is the largest eigenvalue of its H.

    Args:
        loss: at the training points.
        solve: product with the inverse.
        limit: larger leverages are taken as that, see ``limit_of``.
        executor: carries it out.

    Source: Cook and Weisberg, Residuals and Influence in Regression, 1982, sections 2.1 and 2.2.
    """
    largest, own = np.zeros(len(loss)), np.zeros(len(loss))
    names = list(loss.collocation.term_rows())
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    start = 0
    for chunk in loss.chunks(BLOCK):
        rows = PointRows.of(chunk, executor.batch_size)
        blocks = rows.leverages(solve(rows.A.T))
        here, end = start + rows.point, start + rows.n
        rise = blocks.filtered(rows.s, lambda h: np.minimum(h, limit) / (1 - np.minimum(h, limit)))
        largest[start:end] = np.minimum(blocks.largest, limit)
        np.add.at(own, here, rows.s * rise)
        deleted = rows.r + rise / np.where(rows.scale, rows.scale, 1)
        for number, name in enumerate(names):
            parts[name].append(deleted[rows.term == number])
        start += len(chunk)
        executor.advance(len(chunk))
    residuals = {name: np.concatenate(found) for name, found in parts.items()}
    return Leverage(residuals, largest, own, limit)


def limit_of(largest: float, damping: float) -> float:
    """The largest leverage h whose ``1 - h`` is not hidden by rounding.

    A solve has the relative error eps times the condition number, ``largest / damping``.
    """
    condition = largest / damping if damping else np.inf
    return 1 - min(0.5, float(np.finfo(float).eps) * condition)
