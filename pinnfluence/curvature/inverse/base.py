"""What an inverse of a curvature matrix is, and what a method of inverting one gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pinnfluence.curvature.operator import Curvature
from pinnfluence.storage.stage_store import CLOSED, StageStore

Solve = Callable[[np.ndarray], np.ndarray]
"""From columns ``[n_params, k]`` to ``(M + damping I)^-1`` times them."""


class Inverse(ABC):
    """``(M + damping I)^-1``, or its part on some eigenpairs."""

    damping: float

    @abstractmethod
    def solve(self, vectors: np.ndarray) -> np.ndarray:
        """Product with the columns of ``[n_params, k]``."""

    @property
    def root(self) -> np.ndarray | None:
        """R ``[n_params, rank]`` with ``R R^T = (M + damping I)^-1``, if the rank is low."""
        return None

    @property
    def eigenvalues(self) -> np.ndarray:
        """Damped eigenvalues that are inverted, ``[rank]``; none where the whole matrix is."""
        return np.zeros(0)

    @property
    def whitened_rows(self) -> np.ndarray | None:
        """``A R`` ``[n_residuals, rank]`` with ``R R^T = (M + damping I)^-1`` on few directions R.

        A as below; None where the inverse is not on few directions.
        """
        return None

    has_rows: bool = False
    """Whether it knows A, the Jacobian of the loss's scaled residuals, with ``M = A^T A``. Then the
    next two are there, which lose fewer digits than ``solve``."""

    def rows_solve(self, vectors: np.ndarray) -> np.ndarray:
        """``A (M + damping I)^-1`` times columns ``[n_params, k]``."""
        raise NotImplementedError

    def solve_rows(self, coefficients: np.ndarray) -> np.ndarray:
        """``(M + damping I)^-1 A^T`` times columns ``[n_residuals, k]``."""
        raise NotImplementedError


@dataclass(frozen=True)
class UnitCosts:
    """What a computation is measured to take here.

    product: seconds of a product with the curvature matrix. losses: seconds of the gradients of
    all training points' losses. operation: seconds of a floating-point operation of large matrix
    products. batch: points that are differentiated together, of all threads and processes.
    sampled: test rows whose exact scores a compression is taken to need.
    """

    product: float
    losses: float
    operation: float
    batch: int
    sampled: int


@dataclass(frozen=True)
class MethodCost:
    """Seconds by stage, bytes of memory, and bytes of the stages that stay on disk.

    n_directions: that stand for the whole space, of a method that takes some.
    """

    seconds: Mapping[str, float]
    memory_bytes: float
    kept_bytes: float
    n_directions: int = 0


class InverseMethod(ABC):
    """A way to obtain ``(M + damping I)^-1`` for any damping from one piece of work, ``fit``.

    A method is one file that defines ``METHOD``; its name is that of the file, with ``-`` for
    ``_``. It keeps what it computes in a store, so that an interrupted computation goes on.

    Args:
        curvature: M.
        store: where finished work is kept.
        rank: number of eigenpairs, of a method that takes one.
        threshold: least damped eigenvalue that such a method keeps.
    """

    takes_rank: ClassVar[bool] = False
    """Whether it keeps as many eigenpairs as the recipe's rank says; else it is whole."""

    needs_rows: ClassVar[bool] = False
    """Whether it is for matrices ``A^T A`` with a row of A a residual alone."""

    refines: ClassVar[bool] = False
    """Whether ``prepare`` makes the factor finer, where a damping needs that."""

    everywhere: ClassVar[bool] = False
    """Whether all of several processes have the inverse; else only the first."""

    largest: float
    """Largest eigenvalue of M that is known."""

    lowest: float
    """Lowest eigenvalue of M that is known; a true one may be lower."""

    def __init__(
        self,
        curvature: Curvature,
        store: StageStore = CLOSED,
        rank: int = 0,
        threshold: float = 0.0,
    ) -> None:
        self.curvature, self.store = curvature, store
        self.rank, self.threshold = rank, threshold
        self.executor = curvature.executor

    @abstractmethod
    def fit(self) -> None:
        """Do the work that serves all dampings, or take it from the store.

        Raises:
            InputError: NaN or infinite values, no convergence, no curvature at all.
        """

    def prepare(self, damping: float) -> None:  # noqa: B027
        """Do what only the chosen damping says is needed; all of several processes call it."""

    @abstractmethod
    def at(self, damping: float) -> Inverse:
        """The inverse with a damping; of several processes, only the first can solve.

        Raises:
            InputError: indefinite or singular, with figures.
        """

    @classmethod
    @abstractmethod
    def cost(cls, curvature: Curvature, rank: int, unit: UnitCosts) -> MethodCost:
        """What ``fit``, the choice of a damping and one inverse will take."""

    @classmethod
    @abstractmethod
    def kept(cls, curvature: Curvature, store: StageStore) -> dict[str, float]:
        """How much of each of its stages the store has already, from 0 to 1."""

    def metadata(self) -> dict[str, Any]:
        """What a score file says about the work."""
        return {"n_products": self.curvature.n_products}
