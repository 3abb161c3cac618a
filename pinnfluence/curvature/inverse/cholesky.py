"""Cholesky factors of damped matrices, extreme eigenvalues, and inverses without a few rows."""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky
from scipy.linalg.lapack import dpocon
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from pinnfluence.curvature.inverse.base import Solve
from pinnfluence.curvature.operators import OPERATORS
from pinnfluence.errors import InputError

MAX_CONDITION = 1e15
"""Condition number from which on a matrix counts as singular: in float64 no digit is left."""

LARGEST_LEVERAGE = 1 - 1e-10
"""Leverage of removed rows above which the inverse without them is lost in rounding."""


class Factor:
    """Cholesky factor of ``M + damping I``; M is left as it is.

    Args:
        matrix, damping: M ``[n, n]`` and the damping.
        lowest: the smallest eigenvalue of M, for the message where the factor does not exist.

    Raises:
        InputError: indefinite, or singular up to rounding, with figures.
    """

    def __init__(self, matrix: np.ndarray, damping: float, lowest: float) -> None:
        shifted = np.array(matrix, order="F")
        np.einsum("ii->i", shifted)[:] += damping
        norm = _norm(shifted)
        try:
            self._lower = cholesky(shifted, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            never = " or ".join(name for name, kind in OPERATORS.items() if kind.semidefinite)
            raise InputError(
                f"the curvature with damping {damping:.3g} is not positive definite, its most "
                f"negative eigenvalue without damping is {lowest:.3g}: give a larger --damping, or "
                f"take --curvature {never}"
            ) from None
        reciprocal, _ = dpocon(self._lower, norm, uplo="L")
        if not reciprocal * MAX_CONDITION > 1:
            condition = 1 / reciprocal if reciprocal else np.inf
            raise InputError(
                f"the curvature with damping {damping:.3g} is singular up to rounding, its "
                f"condition number is {condition:.1e}: give a larger --damping"
            )

    def solve(self, vectors: np.ndarray) -> np.ndarray:
        """``(M + damping I)^-1`` times columns ``[n, k]``."""
        return cho_solve((self._lower, True), vectors, check_finite=False)


def damped_solver(matrix: np.ndarray, damping: float) -> Solve:
    """Product with ``(M + damping I)^-1``, from the lower triangle of M, which is left as it is.

    Raises:
        LinAlgError: it is not positive definite.
    """
    shifted = np.array(matrix, order="F")
    np.einsum("ii->i", shifted)[:] += damping
    factor = cho_factor(shifted, lower=True, overwrite_a=True, check_finite=False)
    return lambda vectors: cho_solve(factor, vectors, check_finite=False)


def without_rows(solve: Solve, rows: np.ndarray) -> Solve:
    """``(M - U^T U + damping I)^-1`` from ``(M + damping I)^-1``, for few rows U ``[m, n_params]``.

    What remains of a Gauss-Newton matrix when the points of these rows are taken away (Woodbury).

    Raises:
        InputError: the rows alone determine a direction up to rounding: their leverage is 1.
    """
    solved = solve(rows.T)
    H = rows @ solved
    values, vectors = np.linalg.eigh(0.5 * (H + H.T))
    if values[-1] > LARGEST_LEVERAGE:
        raise InputError(
            f"the points alone determine a direction: their leverage is 1 - {1 - values[-1]:.1e}, "
            "and what remains without them is lost in rounding; give a larger damping"
        )
    inner = (vectors / (1 - values)) @ vectors.T

    def solve_rest(right: np.ndarray) -> np.ndarray:
        with_them = solve(right)
        return with_them + solved @ (inner @ (rows @ with_them))

    return solve_rest


def largest_eigenvalue(matrix: np.ndarray) -> float:
    """The largest eigenvalue of a matrix that must be finite and have a positive one.

    Raises:
        InputError: NaN or infinite values, or no curvature.
    """
    if not np.isfinite(matrix).all():
        raise InputError("the curvature has NaN or infinite values; the network's loss overflows")
    largest = extreme_eigenvalue(matrix, "LA")
    if not largest > 0:
        raise InputError(f"the curvature's largest eigenvalue is {largest:.3g}: no minimum")
    return largest


def extreme_eigenvalue(matrix: np.ndarray, which: str) -> float:
    """The largest (LA) or smallest (SA) eigenvalue, from a fixed start vector."""
    n = len(matrix)
    if n <= 200:
        values = np.linalg.eigvalsh(matrix)
        return float(values[-1] if which == "LA" else values[0])
    start = np.random.default_rng(0).standard_normal(n)
    operator = LinearOperator((n, n), matvec=lambda v: matrix @ v, dtype=float)
    try:
        value = eigsh(operator, 1, which=which, v0=start, tol=1e-6, return_eigenvectors=False)
    except ArpackNoConvergence:
        raise InputError(
            f"the eigensolver reached no extreme eigenvalue of {n} parameters; try --dtype float64"
        ) from None
    return float(value[0])


def _norm(matrix: np.ndarray, block: int = 512) -> float:
    """The 1-norm, block by block: no second matrix of absolute values."""
    starts = range(0, len(matrix), block)
    return max(float(abs(matrix[:, s : s + block]).sum(0).max()) for s in starts)
