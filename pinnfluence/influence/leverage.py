"""What a training point's own curvature does: residuals as they would be if it were gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pinnfluence.curvature.inverse import Solve
from pinnfluence.loss.differentiators import jacobian
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.devices import float64_array
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
    parts: dict[str, list[np.ndarray]] = {name: [] for name in loss.weights}
    start = 0
    for chunk in loss.chunks(BLOCK):
        rows = list(residual_rows(chunk, executor.batch_size))
        if rows:
            deleted = _deleted(rows, solve, limit, largest[start:], own[start:])
            for row, values in zip(rows, deleted, strict=True):
                parts[row.name].append(values / row.scale if row.scale else row.values)
        start += len(chunk)
        executor.advance(len(chunk))
    residuals = {name: np.concatenate([np.zeros(0), *found]) for name, found in parts.items()}
    return Leverage(residuals, largest, own, limit)


def limit_of(largest: float, damping: float) -> float:
    """The largest leverage h whose ``1 - h`` is not hidden by rounding.

    A solve has the relative error eps times the condition number, ``largest / damping``.
    """
    condition = largest / damping if damping else np.inf
    return 1 - min(0.5, float(np.finfo(float).eps) * condition)


def _deleted(
    rows: list[ResidualRows], solve: Solve, limit: float, largest: np.ndarray, own: np.ndarray
) -> list[np.ndarray]:
    """Scaled deleted residuals ``(I - H)^-1 s``, as the rows come.

    largest, own: of the points, to be filled in; see ``Leverage``.
    """
    points = np.concatenate([row.points for row in rows])
    s = np.concatenate([row.scale * row.values for row in rows])
    U = np.concatenate([row.scale * row.gradients for row in rows])
    solved, deleted = solve(U.T).T, np.empty_like(s)
    order = np.argsort(points, kind="stable")
    for mine in np.split(order, np.flatnonzero(np.diff(points[order])) + 1):
        H = U[mine] @ solved[mine].T
        values, vectors = np.linalg.eigh(0.5 * (H + H.T))
        values = np.clip(values, 0.0, limit)
        inner = vectors.T @ s[mine]
        deleted[mine] = vectors @ (inner / (1 - values))
        point = points[mine[0]]
        largest[point], own[point] = values[-1], inner @ (values / (1 - values) * inner)
    return np.split(deleted, np.cumsum([len(row.values) for row in rows])[:-1])


@dataclass(frozen=True)
class ResidualRows:
    """A loss term at some points: their numbers, residuals ``[n]`` and gradients."""

    name: str
    points: np.ndarray
    scale: float
    values: np.ndarray
    gradients: np.ndarray


def residual_rows(chunk: Loss, batch_size: int) -> Iterator[ResidualRows]:
    """All residuals of a loss with their gradients, some points of a term at a time."""
    collocation = chunk.collocation
    for points, one in zip(collocation.points.rows, collocation.singles(), strict=True):
        start = 0
        for part in one.chunks(batch_size):
            here = points[start : start + len(part)]
            for name, found in jacobian(part).items():
                values, gradients = map(float64_array, found)
                yield ResidualRows(name, here, chunk.scale(name), values, gradients)
            start += len(part)
