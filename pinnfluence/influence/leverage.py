"""What a training point's own curvature does: residuals as they would be if it were gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pinnfluence.devices import float64_array
from pinnfluence.gradients import Advance, jacobian
from pinnfluence.terms import Collocation

BLOCK = 500
"""Training points whose gradients ``[n_rows, n_params]`` are held at a time."""

MOST = 1 - 1e-9
"""Leverages beyond are taken as that: what is left of ``1 - h`` in float64 is rounding."""

Solve = Callable[[np.ndarray], np.ndarray]
"""Product of ``(G + damping I)^-1`` with ``[n_params, k]``."""


@dataclass(frozen=True)
class Leverage:
    """Leverage of training points, and what it makes of their residuals and their scores.

    residuals: deleted residuals by loss term, ``[n_k]`` where it acts. largest: of each point,
    between 0 and 1, ``[n_train]``. self_influence: ``Inf(l_i; z_i)``, ``[n_train]``.
    """

    residuals: dict[str, np.ndarray]
    largest: np.ndarray
    self_influence: np.ndarray

    def summary(self) -> dict[str, float]:
        """Median, 95th percentile and maximum over the training points."""
        median, p95, largest = np.percentile(self.largest, [50, 95, 100])
        return {"median": float(median), "p95": float(p95), "largest": float(largest)}


def leverage(
    collocation: Collocation,
    weights: Mapping[str, float],
    solve: Solve,
    batch_size: int,
    advance: Advance = lambda n: None,
) -> Leverage:
    """Leverage of each training point under a damped Gauss-Newton matrix G.

    A point that is taken away takes its part of the curvature along. With its rows
    ``U = (2 w_k)^1/2 grad r_k`` and its leverage ``H = U (G + damping I)^-1 U^T`` (Woodbury),

        (G - U^T U + damping I)^-1 U^T s = (G + damping I)^-1 U^T (I - H)^-1 s,

    so that the scores of the curvature of the points that are left are those with the deleted
    residuals ``(2 w_k)^-1/2 ((I - H)^-1 s)_k`` in place of ``r_k = (2 w_k)^-1/2 s_k``. The largest
    leverage of a point is the largest eigenvalue of its H.

    Args:
        collocation, weights: the loss at the training points.
        solve: product with the inverse.
        batch_size: points that are differentiated at a time.
        advance: is told of finished points.

    Source: Cook and Weisberg, Residuals and Influence in Regression, 1982, sections 2.1 and 2.2.
    """
    largest, own = np.zeros(len(collocation.x)), np.zeros(len(collocation.x))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in collocation.pinn.terms}
    start = 0
    for chunk in collocation.chunks(BLOCK):
        rows = list(_rows(chunk, weights, batch_size))
        if rows:
            deleted = _deleted(rows, solve, largest[start:], own[start:])
            for row, values in zip(rows, deleted, strict=True):
                parts[row.name].append(values / row.scale if row.scale else row.values)
        start += len(chunk.x)
        advance(len(chunk.x))
    residuals = {name: np.concatenate([np.zeros(0), *found]) for name, found in parts.items()}
    return Leverage(residuals, largest, own)


def _deleted(
    rows: list[_Rows], solve: Solve, largest: np.ndarray, own: np.ndarray
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
        values = np.clip(values, 0.0, MOST)
        inner = vectors.T @ s[mine]
        deleted[mine] = vectors @ (inner / (1 - values))
        point = points[mine[0]]
        largest[point], own[point] = values[-1], inner @ (values / (1 - values) * inner)
    return np.split(deleted, np.cumsum([len(row.values) for row in rows])[:-1])


@dataclass(frozen=True)
class _Rows:
    """A loss term at some points: their numbers, residuals ``[n]`` and gradients."""

    name: str
    points: np.ndarray
    scale: float
    values: np.ndarray
    gradients: np.ndarray


def _rows(chunk: Collocation, weights: Mapping[str, float], batch_size: int) -> Iterator[_Rows]:
    for number, points in enumerate(chunk.rows):
        start = 0
        for part in chunk.only(number).chunks(batch_size):
            here = points[start : start + len(part.x)]
            for name, found in jacobian(part).items():
                values, gradients = map(float64_array, found)
                yield _Rows(name, here, float(2 * weights[name]) ** 0.5, values, gradients)
            start += len(part.x)
