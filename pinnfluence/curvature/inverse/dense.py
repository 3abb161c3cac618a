"""The whole inverse by a Cholesky factor of the matrix itself."""

from __future__ import annotations

import numpy as np

from pinnfluence.curvature.inverse.base import Inverse, InverseMethod, MethodCost, UnitCosts
from pinnfluence.curvature.inverse.cholesky import Factor, extreme_eigenvalue, largest_eigenvalue
from pinnfluence.curvature.matrix_store import COLUMNS, FINISHED, STAGE, MatrixStore
from pinnfluence.curvature.operator import Curvature
from pinnfluence.storage.stage_store import StageStore


class DenseInverse(Inverse):
    """``(M + damping I)^-1`` by a Cholesky factor, ``[n_params, n_params]``."""

    def __init__(self, matrix: np.ndarray, damping: float, lowest: float) -> None:
        self.damping = damping
        self._factor = Factor(matrix, damping, lowest)

    def solve(self, vectors: np.ndarray) -> np.ndarray:
        return self._factor.solve(vectors)


class Dense(InverseMethod):
    """The dense matrix, of which a Cholesky factor is made for each damping.

    The matrix is kept, also while it is summed; factors are made again.
    """

    _matrix: np.ndarray

    def fit(self) -> None:
        """Make the matrix, and find its extreme eigenvalues."""
        with self.executor.stage("curvature", self.curvature.n_steps):
            dense = self.curvature.dense(MatrixStore(self.store, self.executor))
        self._matrix = np.asfortranarray(dense)
        self.largest = largest_eigenvalue(self._matrix)
        known = self.curvature.semidefinite
        self.lowest = 0.0 if known else extreme_eigenvalue(self._matrix, "SA")

    def at(self, damping: float) -> DenseInverse:
        return DenseInverse(self._matrix, damping, self.lowest)

    @classmethod
    def cost(cls, curvature: Curvature, rank: int, unit: UnitCosts) -> MethodCost:
        """The products or rows of the matrix, and its factor."""
        p, n = curvature.n_params, curvature.n_residuals
        matrix = n * p * p * unit.operation if curvature.has_rows else p * unit.product
        seconds = {"curvature": matrix, "factorisation": p**3 / 3 * unit.operation}
        kept = 8 * p * min(p, (p + COLUMNS) // 2)
        return MethodCost(seconds, 8 * 2 * p * p, kept)

    @classmethod
    def kept(cls, curvature: Curvature, store: StageStore) -> dict[str, float]:
        """The part of the matrix that is summed."""
        n_steps = (store.facts(STAGE) or {}).get("n_steps", 0)
        return {"curvature": 1.0 if n_steps == FINISHED else n_steps / curvature.n_parts}


METHOD = Dense
