"""The whole inverse in the space of the residuals, where there are fewer than parameters."""

from __future__ import annotations

import numpy as np

from pinnfluence.curvature.inverse.base import Inverse, InverseMethod, MethodCost, UnitCosts
from pinnfluence.curvature.inverse.cholesky import Factor, largest_eigenvalue
from pinnfluence.curvature.operator import Curvature
from pinnfluence.errors import InputError
from pinnfluence.storage.stage_store import StageStore

REFINEMENTS = 2
"""Steps of iterative refinement: each takes back what cancellation lost in the one before."""


class ResidualSpaceInverse(Inverse):
    """``(A^T A + damping I)^-1`` by a factor of ``A A^T + damping I``, one row a residual.

    By Woodbury it is ``(I - A^T (A A^T + damping I)^-1 A) / damping``, which cancels for small
    dampings and is refined. Products with A do not need it (push-through):
    ``(A^T A + damping I)^-1 A^T = A^T (A A^T + damping I)^-1``.
    """

    has_rows = False

    def __init__(
        self, rows: np.ndarray, gram: np.ndarray, damping: float, has_rows: bool = False
    ) -> None:
        if damping == 0:
            raise InputError(
                f"the curvature of {len(rows[0])} parameters and {len(rows)} residuals is "
                "singular: give a positive --damping"
            )
        self.damping, self._rows, self.has_rows = damping, rows, has_rows
        self._factor = Factor(gram, damping, 0.0)

    def solve(self, vectors: np.ndarray) -> np.ndarray:
        A = self._rows
        solution = self._woodbury(vectors)
        for _ in range(REFINEMENTS):
            left = vectors - A.T @ (A @ solution) - self.damping * solution
            solution = solution + self._woodbury(left)
        return solution

    def rows_solve(self, vectors: np.ndarray) -> np.ndarray:
        """``A (A^T A + damping I)^-1`` times columns ``[n_params, k]``."""
        return self._factor.solve(self._rows @ vectors)

    def solve_rows(self, coefficients: np.ndarray) -> np.ndarray:
        """``(A^T A + damping I)^-1 A^T`` times columns ``[n_residuals, k]``."""
        return self._rows.T @ self._factor.solve(coefficients)

    def _woodbury(self, vectors: np.ndarray) -> np.ndarray:
        inner = self._factor.solve(self._rows @ vectors)
        return (vectors - self._rows.T @ inner) / self.damping


class ResidualSpace(InverseMethod):
    """The rows A of ``M = A^T A`` and their Gram matrix, factored for each damping.

    Nothing is kept: it is made for small numbers of residuals.
    """

    needs_rows = True
    _rows: np.ndarray
    _gram: np.ndarray

    def fit(self) -> None:
        """Make the rows and their Gram matrix."""
        with self.executor.stage("curvature", self.curvature.n_residuals):
            self._rows = self.curvature.rows()
        with np.errstate(over="ignore", invalid="ignore"):  # refused by the next line
            self._gram = np.asfortranarray(self._rows @ self._rows.T)
        self.largest, self.lowest = largest_eigenvalue(self._gram), 0.0

    def at(self, damping: float) -> ResidualSpaceInverse:
        has_rows = self.curvature.has_loss_rows
        return ResidualSpaceInverse(self._rows, self._gram, damping, has_rows)

    @classmethod
    def cost(cls, curvature: Curvature, rank: int, unit: UnitCosts) -> MethodCost:
        """The Gram matrix of the rows, and its factor."""
        p, n = curvature.n_params, curvature.n_residuals
        seconds = {
            "curvature": n * p * n * unit.operation,
            "factorisation": n**3 / 3 * unit.operation,
        }
        return MethodCost(seconds, 8 * (2 * n * n + n * p), 0)

    @classmethod
    def kept(cls, curvature: Curvature, store: StageStore) -> dict[str, float]:
        """Nothing."""
        return {"curvature": 0.0}


METHOD = ResidualSpace
