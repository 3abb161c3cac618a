"""Damped inverses of the Gauss-Newton matrix of a loss at points."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from scipy.linalg import svd
from scipy.linalg.blas import dsymv

from pinnfluence.curvature.gram import add_gram
from pinnfluence.curvature.inverse import Solve
from pinnfluence.curvature.inverse.cholesky import damped_solver
from pinnfluence.curvature.lanczos import Advance
from pinnfluence.diagnosis.point_loss import PointLoss
from pinnfluence.loss.pinn import Pinn

BLOCK_ROWS = 2500
"""Rows of the Jacobian that are added to the Gram matrix at a time."""

QR_ROWS = 4
"""Rows for each column of a Jacobian that a QR decomposition takes in at a time."""

SMALL = 5000
"""Parameters up to which the singular values of the Jacobian itself are computed."""


class Inverse(Protocol):
    """Damped inverses of a Gauss-Newton matrix ``G = A^T A``, dampings as parts of its largest
    eigenvalue.

    largest: the largest eigenvalue of G. least: the least part at which rounding leaves the
    solution right.
    """

    largest: float
    least: float

    def solve(self, vectors: np.ndarray, part: float) -> np.ndarray:
        """``(G + part largest I)^-1`` times a vector or columns, ``[n_params, ...]``."""
        ...

    def step(self, part: float) -> np.ndarray:
        """``-(G + part largest I)^-1 A^T s``, ``[n_params]``: the minimiser of the linearised
        loss ``|s + A d|^2 / 2 + part largest |d|^2 / 2``."""
        ...

    def effective_parameters(self, part: float) -> float:
        """``tr (G + part largest I)^-1 G``."""
        ...


class Rows(Protocol):
    """A loss ``|s|^2 / 2`` with s and its Jacobian A."""

    def jacobian(self, advance: Advance = ...) -> np.ndarray:
        """A ``[n_rows, n_params]``, which may be overwritten."""
        ...

    def residuals(self) -> np.ndarray:
        """s ``[n_rows]``."""
        ...


class SingularValues:
    """Inverses from the singular values of A: exact down to dampings far below the rounding of G.

    A = Q R, R = U S V^T: ``(G + damping I)^-1 = V (S^2 + damping)^-1 V^T`` on the rows of V^T, and
    ``1 / damping`` on what is orthogonal to them.
    """

    least = 1e-24

    def __init__(
        self,
        loss: Rows,
        start: np.ndarray | None = None,
        advance: Advance = lambda n: None,
    ) -> None:
        A, s = loss.jacobian(advance), loss.residuals()
        if start is not None:
            s = s - A @ start
        if len(A) > A.shape[1]:  # R of [A, s] holds R of A and, as its last column, Q^T s
            n, R = A.shape[1], np.zeros((0, A.shape[1] + 1))
            for first in range(0, len(A), QR_ROWS * n):
                rows = slice(first, first + QR_ROWS * n)
                more = np.concatenate([R, np.column_stack([A[rows], s[rows]])])
                R = torch.linalg.qr(torch.from_numpy(more), mode="r").R.numpy()
            A, s = R[:n, :n], R[:n, n]
        U, self._values, self._vectors = svd(
            A, full_matrices=False, overwrite_a=True, check_finite=False
        )
        self._right = U.T @ s
        self.largest = float(self._values[0]) ** 2

    def solve(self, vectors: np.ndarray, part: float) -> np.ndarray:
        damping, V = part * self.largest, self._vectors
        inside = V @ vectors
        found = V.T @ (inside.T / (self._values**2 + damping)).T
        if len(V) < V.shape[1]:
            outside = vectors - V.T @ inside
            outside -= V.T @ (V @ outside)  # the first difference leaves rounding along V
            found += outside / damping
        return found

    def step(self, part: float) -> np.ndarray:
        S = self._values
        return -self._vectors.T @ (S / (S**2 + part * self.largest) * self._right)

    def draws(self, n: int, part: float) -> np.ndarray:
        """Vectors from the normal distribution with covariance ``(G + part largest I)^-1``.

        Those of the network's parameters, were s the residuals of a regression: what the rows
        determine varies little. ``[n_params, n]``; their variance along a row is its leverage.
        """
        S, V, damping = self._values, self._vectors, part * self.largest
        normal = np.random.default_rng(0).standard_normal((V.shape[1], n))
        inside = V @ normal
        found: np.ndarray = V.T @ (inside / np.sqrt(S**2 + damping)[:, None])
        if len(V) < V.shape[1]:
            found += (normal - V.T @ inside) / np.sqrt(damping)
        return found

    def effective_parameters(self, part: float) -> float:
        S2 = self._values**2
        return float((S2 / (S2 + part * self.largest)).sum())


class GramMatrix:
    """Inverses from Cholesky factors of G itself, for more parameters.

    The factor of the last damping is kept. gradient: ``A^T s``, ``[n_params]``.
    """

    least = 1e-15

    def __init__(
        self,
        loss: PointLoss,
        start: np.ndarray | None = None,
        advance: Advance = lambda n: None,
    ) -> None:
        n_params, s = loss.collocation.pinn.n_params, loss.residuals()
        self._matrix = np.zeros((n_params, n_params), order="F")  # its lower triangle counts
        self.gradient = np.zeros(n_params)
        waiting: list[np.ndarray] = []
        for rows, block in loss.blocks():
            here = s[rows] if start is None else s[rows] - block @ start
            self.gradient += block.T @ here
            waiting.append(block)
            if sum(map(len, waiting)) >= BLOCK_ROWS:
                self._add(waiting)
            advance(len(block))
        self._add(waiting)
        self.largest = self._power_iteration()
        self._last: tuple[float, Solve] | None = None

    def solve(self, vectors: np.ndarray, part: float) -> np.ndarray:
        if self._last is None or self._last[0] != part:
            self._last = None  # its memory is needed
            self._last = part, damped_solver(self._matrix, part * self.largest)
        return self._last[1](vectors)

    def step(self, part: float) -> np.ndarray:
        return -self.solve(self.gradient, part)

    def effective_parameters(self, part: float) -> float:
        """By 30 random vectors of signs (Hutchinson)."""
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (len(self.gradient), 30))
        damping = part * self.largest
        kept = 1 - damping * np.mean(np.sum(signs * self.solve(signs, part), 0)) / len(signs)
        return float(kept * len(signs))

    def _add(self, waiting: list[np.ndarray]) -> None:
        if waiting:
            rows = torch.from_numpy(np.concatenate(waiting))
            self._matrix = add_gram(self._matrix, rows)
            waiting.clear()

    def _power_iteration(self) -> float:
        vector = np.random.default_rng(0).standard_normal(len(self.gradient))
        for _ in range(30):
            vector = dsymv(1.0, self._matrix, vector / np.linalg.norm(vector), lower=1)
        return float(np.linalg.norm(vector))


def is_small(pinn: Pinn) -> bool:
    """Whether a network has so few parameters that singular values of its Jacobian are cheap."""
    return pinn.n_params <= SMALL


def inverse_of(
    loss: PointLoss, start: np.ndarray | None = None, advance: Advance = lambda n: None
) -> Inverse:
    """The inverses of a loss's Gauss-Newton matrix, in the way that its size allows.

    Args:
        start: the step at which the residuals and the Jacobian were taken, if that is not 0: then
            ``step`` gives whole steps, ``|s + A (d - start)|`` is what they make small.
    """
    kind = SingularValues if is_small(loss.collocation.pinn) else GramMatrix
    return kind(loss, start, advance)
