"""Damped inverses of a curvature matrix: low rank, full rank, and full rank in residual space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky
from scipy.linalg.lapack import dpocon
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from pinnfluence.curvature.eigenpairs import Eigenpairs
from pinnfluence.curvature.matrix_store import MatrixStore
from pinnfluence.curvature.operators import OPERATORS, Curvature
from pinnfluence.errors import InputError
from pinnfluence.loss.gradients import Advance
from pinnfluence.storage.stage_store import CLOSED, StageStore

MAX_CONDITION = 1e15
"""Condition number from which on a matrix counts as singular: in float64 no digit is left."""


Solve = Callable[[np.ndarray], np.ndarray]
"""From columns ``[n_params, k]`` to ``(M + damping I)^-1`` times them."""


class Inverse(Protocol):
    """``(M + damping I)^-1``, or what is left of it on some eigenpairs."""

    @property
    def damping(self) -> float: ...

    def solve(self, vectors: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class LowRank:
    """``V (Lambda + damping)^-1 V^T`` on eigenpairs whose values include the damping."""

    pairs: Eigenpairs
    damping: float

    def solve(self, vectors: np.ndarray) -> np.ndarray:
        """Product with the columns of ``[n_params, k]``."""
        V = self.pairs.vectors
        return V @ ((V.T @ vectors) / self.pairs.values[:, None])


@dataclass(frozen=True)
class Elsewhere:
    """An inverse that the first of several processes has."""

    damping: float

    def solve(self, vectors: np.ndarray) -> np.ndarray:
        """Raise InputError."""
        raise InputError("only the first of several processes has the inverse; start a single one")


class _Factor:
    """Cholesky factor of ``M + damping I``; M is left as it is."""

    def __init__(self, matrix: np.ndarray, damping: float, lowest: float | None) -> None:
        shifted = np.array(matrix, order="F")
        np.einsum("ii->i", shifted)[:] += damping
        norm = _norm(shifted)
        try:
            self.lower = cholesky(shifted, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            least = _extreme(matrix, "SA") if lowest is None else lowest
            never = " or ".join(name for name, kind in OPERATORS.items() if kind.semidefinite)
            raise InputError(
                f"the curvature with damping {damping:.3g} is not positive definite, its most "
                f"negative eigenvalue without damping is {least:.3g}: give a larger --damping, or "
                f"take --curvature {never}"
            ) from None
        reciprocal, _ = dpocon(self.lower, norm, uplo="L")
        if not reciprocal * MAX_CONDITION > 1:
            condition = 1 / reciprocal if reciprocal else np.inf
            raise InputError(
                f"the curvature with damping {damping:.3g} is singular up to rounding, its "
                f"condition number is {condition:.1e}: give a larger --damping"
            )

    def solve(self, vectors: np.ndarray) -> np.ndarray:
        return cho_solve((self.lower, True), vectors, check_finite=False)


class Cholesky:
    """``(M + damping I)^-1`` by a Cholesky factor, ``[n_params, n_params]``."""

    def __init__(self, matrix: np.ndarray, damping: float, lowest: float | None) -> None:
        self.damping = damping
        self._factor = _Factor(matrix, damping, lowest)

    def solve(self, vectors: np.ndarray) -> np.ndarray:
        """Product with the columns of ``[n_params, k]``."""
        return self._factor.solve(vectors)


class Woodbury:
    """``(A^T A + damping I)^-1 = (I - A^T (A A^T + damping I)^-1 A) / damping``.

    The factor has the size of the residuals: ``[n_residuals, n_residuals]``.
    """

    def __init__(self, rows: np.ndarray, gram: np.ndarray, damping: float) -> None:
        if damping == 0:
            raise InputError(
                f"the curvature of {len(rows[0])} parameters and {len(rows)} residuals is "
                "singular: give a positive --damping"
            )
        self.damping = damping
        self._rows = rows
        self._factor = _Factor(gram, damping, 0.0)

    def solve(self, vectors: np.ndarray) -> np.ndarray:
        """Product with the columns of ``[n_params, k]``."""
        inner = self._factor.solve(self._rows @ vectors)
        return (vectors - self._rows.T @ inner) / self.damping


class FullRank:
    """A curvature matrix as a whole, of which inverses of any damping are made.

    In residual space where a matrix with rows has fewer residuals than parameters: from A with
    ``M = A^T A`` and ``A A^T``; else from M itself, which a store keeps while it is made.

    Attributes:
        largest, lowest: its extreme eigenvalues.

    Raises:
        InputError: NaN or infinite values, or no curvature at all.
    """

    def __init__(
        self,
        curvature: Curvature,
        advance: Advance = lambda n: None,
        residual_space: bool | None = None,
        store: StageStore = CLOSED,
    ) -> None:
        if residual_space is None:
            residual_space = prefers_residual_space(curvature)
        self.shape = curvature.shape
        self._rows: np.ndarray | None = None
        if residual_space:
            self._rows = curvature.rows(advance)
            self._matrix = np.asfortranarray(self._rows @ self._rows.T)
        else:
            self._matrix = np.asfortranarray(curvature.dense(advance, MatrixStore(store)))
        if not np.isfinite(self._matrix).all():
            raise InputError(
                "the curvature has NaN or infinite values; the network's loss overflows"
            )
        self.lowest = 0.0 if curvature.semidefinite else _extreme(self._matrix, "SA")
        self.largest = _extreme(self._matrix, "LA")
        if not self.largest > 0:
            raise InputError(
                f"the curvature's largest eigenvalue is {self.largest:.3g}: no minimum"
            )

    def inverse(self, damping: float) -> Inverse:
        """The damped inverse.

        Raises:
            InputError: indefinite or singular, with figures.
        """
        if self._rows is not None:
            return Woodbury(self._rows, self._matrix, damping)
        return Cholesky(self._matrix, damping, self.lowest)


def without_rows(solve: Solve, rows: np.ndarray) -> Solve:
    """``(M - U^T U + damping I)^-1`` from ``(M + damping I)^-1``, for few rows U ``[m, n_params]``.

    What remains of a Gauss-Newton matrix when the points of these rows of A are taken away
    (Woodbury).
    """
    solved = solve(rows.T)
    inner = np.linalg.inv(np.eye(len(rows)) - rows @ solved)

    def solve_rest(vectors: np.ndarray) -> np.ndarray:
        found = solve(vectors)
        return found + solved @ (inner @ (rows @ found))

    return solve_rest


def prefers_residual_space(curvature: Curvature) -> bool:
    """Whether there are fewer residuals than parameters, of a matrix with a row a residual."""
    return curvature.has_rows and curvature.n_residuals < curvature.n_params


def _extreme(matrix: np.ndarray, which: str) -> float:
    """The largest (LA) or smallest (SA) eigenvalue, from a fixed start vector."""
    n = len(matrix)
    if n <= 200:
        values = np.linalg.eigvalsh(matrix)
        return float(values[-1] if which == "LA" else values[0])
    start = np.random.default_rng(0).standard_normal(n)
    operator = LinearOperator((n, n), matvec=lambda v: matrix @ v, dtype=float)
    try:
        found = eigsh(operator, 1, which=which, v0=start, tol=1e-6, return_eigenvectors=False)
    except ArpackNoConvergence:
        raise InputError(
            f"the eigensolver found no extreme eigenvalue of {n} parameters; try --dtype float64"
        ) from None
    return float(found[0])


def _norm(matrix: np.ndarray, block: int = 512) -> float:
    """The 1-norm, block by block: no second matrix of absolute values."""
    starts = range(0, len(matrix), block)
    return max(float(abs(matrix[:, s : s + block]).sum(0).max()) for s in starts)
