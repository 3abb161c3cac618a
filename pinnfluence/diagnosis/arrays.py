"""Influence and errors from arrays alone: for JAX, or whatever else made a network.

With residuals r_i, their gradients J_i by the parameters, and weights w_i, the loss is
``L = sum_i w_i r_i^2``. With ``s = (2 w)^1/2 r`` and A the rows ``(2 w_i)^1/2 J_i`` it is
``|s|^2 / 2``; its gradient is ``A^T s``, and its Gauss-Newton matrix is ``M = A^T A``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from pinnfluence.curvature.damping import N_SIGNS, Damping, automatic_damping, open_part
from pinnfluence.curvature.inverse.base import Inverse
from pinnfluence.curvature.inverse.cholesky import largest_eigenvalue
from pinnfluence.curvature.inverse.dense import DenseInverse
from pinnfluence.curvature.inverse.residual_space import ResidualSpaceInverse
from pinnfluence.curvature.lanczos import Advance
from pinnfluence.curvature.recipe import AUTO
from pinnfluence.diagnosis.error_estimate import Trial, trials
from pinnfluence.diagnosis.factor import SingularValues
from pinnfluence.errors import InputError
from pinnfluence.scores.exact import ExactMatrix

Terms = Mapping[str, slice | Sequence[int] | np.ndarray]
"""The rows of each loss term, by name."""

COLUMNS = 64
"""Vectors that a LinearOperator is multiplied by at a time."""

Weights = Mapping[str, float] | Sequence[float] | np.ndarray | None
"""Of each row, w_i; or of each term, c_k: then ``w_i = c_k / |S_k|``. None: all c_k are 1."""


@dataclass(frozen=True)
class ScaledRows:
    """The vector s ``[n]`` and the matrix A ``[n, n_params]`` of a loss; rows of each term."""

    A: np.ndarray
    s: np.ndarray
    rows: dict[str, np.ndarray]

    @classmethod
    def of(
        cls, jacobian: Any, residuals: Any, weights: Weights = None, terms: Terms | None = None
    ) -> ScaledRows:
        """Those of arrays, as ``from_arrays`` takes them."""
        J, r = _finite("jacobian", jacobian, 2), _finite("residuals", residuals, 1)
        if len(J) != len(r) or len(r) == 0:
            raise InputError(
                f"expected a row of the jacobian for each residual, found {J.shape} and {r.shape}"
            )
        rows = {name: np.arange(len(r))[index] for name, index in (terms or {}).items()}
        rows = rows or {"all": np.arange(len(r))}
        if not np.array_equal(np.sort(np.concatenate(list(rows.values()))), np.arange(len(r))):
            raise InputError(f"expected each of the {len(r)} rows in one of the terms")
        root = np.sqrt(2 * _weights(weights, rows, len(r)))
        return cls(root[:, None] * J, root * r, rows)

    def jacobian(self, advance: Advance = lambda n: None) -> np.ndarray:
        """A, a copy."""
        return self.A.copy()

    def residuals(self) -> np.ndarray:
        """s."""
        return self.s

    def after(self, d: np.ndarray) -> np.ndarray:
        """``s + A d``: what is left of s after a step of the parameters, to first order."""
        moved: np.ndarray = self.s + self.A @ d
        return moved

    def some(self, chosen: np.ndarray) -> ScaledRows:
        """Some of the rows, by their numbers; without names."""
        return ScaledRows(self.A[chosen], self.s[chosen], {})


@dataclass(frozen=True)
class ArrayError:
    """Estimated error ``solution - prediction`` at the test rows, ``[n_test]``.

    unexplained: part of the residuals of a second set of fresh rows that the correction leaves, 0
    to 1. part: the damping that was taken, over the largest eigenvalue.
    """

    error: np.ndarray
    unexplained: float
    part: float


@dataclass(frozen=True)
class ArrayInfluence:
    """What ``from_arrays`` returns; ``scores`` and ``leverage`` are computed when asked for."""

    train: ScaledRows
    test: np.ndarray
    inverse: Inverse
    chosen: Damping | None

    @property
    def damping(self) -> float:
        """The damping that was given or chosen."""
        return self.inverse.damping

    @cached_property
    def scores(self) -> ExactMatrix:
        """Influence ``grad f_j . (M + damping I)^-1 . grad l_i``, ``[n_test, n_train]``.

        Positive: removing the row raises f. ``scores.values``, ``scores.term("pde")``.
        """
        by_row = self._rows_solve(self.test.T) * self.train.s[:, None]
        parts = {name: by_row[rows].T for name, rows in self.train.rows.items()}
        numbers = np.arange(len(self.train.s), dtype=float)[:, None]
        return ExactMatrix(parts, self.train.rows, numbers)

    @cached_property
    def leverage(self) -> np.ndarray:
        """``A_i (M + damping I)^-1 A_i^T`` of each row, ``[n_train]``, 0 to 1.

        ``r_i / (1 - leverage_i)`` is the residual that the row would have had without it.
        """
        A, n = self.train.A, 500
        blocks = [self._rows_solve(A[i : i + n].T)[i : i + n] for i in range(0, len(A), n)]
        return np.concatenate([np.diag(block) for block in blocks])

    def error(
        self,
        jacobian: Any,
        residuals: Any,
        weights: Weights = None,
        terms: Terms | None = None,
        seed: int = 0,
    ) -> ArrayError:
        """How wrong the predictions at the test rows are: an estimate from fresh points.

        ``error = grad f . d`` with ``d = -(G + damping I)^-1 grad L`` of the loss at two thirds of
        the fresh rows; the damping leaves least of the linearised residuals of the other third.
        See ``pinnfluence.diagnosis.error_estimate``.

        Args:
            jacobian, residuals, weights, terms: as of ``from_arrays``, at points on which the
                network was not trained.
            seed: of the split.

        Raises:
            InputError: arrays that do not fit; fewer than three rows.
        """
        fresh = ScaledRows.of(jacobian, residuals, weights, terms)
        n, n_params = len(fresh.s), self.test.shape[1]
        if fresh.A.shape[1] != n_params or n < 3:
            raise InputError(
                f"expected at least 3 fresh rows of {n_params} parameters, found {fresh.A.shape}"
            )
        order, first = np.random.default_rng(seed).permutation(n), round(2 * n / 3)
        fit, check = fresh.some(order[:first]), fresh.some(order[first:])
        before = float(0.5 * (check.s @ check.s))
        nothing = Trial(np.inf, before, np.zeros(n_params))
        tried = [*trials(SingularValues(fit), check), nothing]
        best = min(tried, key=lambda trial: trial.loss)
        left = float(np.sqrt(best.loss / before)) if before > 0 else 0.0
        return ArrayError(self.test @ best.step, left, best.part)

    def _rows_solve(self, columns: np.ndarray) -> np.ndarray:
        if self.inverse.has_rows:
            return self.inverse.rows_solve(columns)
        solved: np.ndarray = self.train.A @ self.inverse.solve(columns)
        return solved


def from_arrays(
    jacobian: Any,
    residuals: Any,
    weights: Weights = None,
    jacobian_test: Any = None,
    terms: Terms | None = None,
    damping: float | str = AUTO,
) -> ArrayInfluence:
    """Influence of training points from arrays, by the recipe ``gauss-newton``.

    Args:
        jacobian: gradients of the training's residuals by the parameters, ``[n_train, n_params]``:
            an array, or a SciPy ``LinearOperator``, of which the rows are formed by
            ``min(n_train, n_params)`` products and then held whole like those of an array.
        residuals: ``[n_train]``. The loss is ``sum_i w_i r_i^2``.
        weights: w_i ``[n_train]``; or c_k by name of the term, then ``w_i = c_k / |S_k|``; None
            means that all c_k are 1: a mean a term.
        jacobian_test: gradients of the predictions, ``[n_test, n_params]``, likewise.
        terms: the rows of each loss term by name: ``{"pde": slice(0, 200), ...}``; each row is in
            one. None: a single term ``all``.
        damping: a number, or ``auto``: the rule of the recipe without its second criterion, as
            arrays do not say how far the Gauss-Newton matrix is from the Hessian.

    Raises:
        InputError: arrays that do not fit or are not finite, a negative weight or damping.

    >>> found = pinnfluence.from_arrays(J, r, {"pde": 1.0}, J_test, {"pde": slice(0, 200)})
    ... # doctest: +SKIP
    >>> found.scores.term("pde")                                         # doctest: +SKIP
    """
    train = ScaledRows.of(jacobian, residuals, weights, terms)
    test = _finite("jacobian_test", jacobian_test, 2)
    if test.shape[1] != train.A.shape[1]:
        raise InputError(
            f"expected {train.A.shape[1]} parameters in jacobian_test, found {test.shape}"
        )
    few = len(train.A) < train.A.shape[1]
    matrix = np.asfortranarray(train.A @ train.A.T if few else train.A.T @ train.A)
    largest = largest_eigenvalue(matrix)

    def at(value: float) -> Inverse:
        if few:
            return ResidualSpaceInverse(train.A, matrix, value, has_rows=True)
        return DenseInverse(matrix, value, 0.0)

    if damping != AUTO:
        if isinstance(damping, str) or not 0 <= damping < np.inf:
            raise InputError(f"expected a damping of at least 0 or {AUTO}, found {damping}")
        return ArrayInfluence(train, test, at(float(damping)), None)
    eps = float(np.finfo(np.float64).eps) * train.A.shape[1]
    if getattr(jacobian, "dtype", None) == np.float32:
        eps = max(eps, float(np.finfo(np.float32).eps))
    gradients = _signed_gradients(train)
    chosen = automatic_damping(
        largest, 0.0, eps, lambda v: open_part(at(v), gradients), lambda v: 0.0
    )
    return ArrayInfluence(train, test, at(chosen.value), chosen)


def _signed_gradients(train: ScaledRows) -> np.ndarray:
    """grad L and sums of the rows' gradients with random signs, ``[n_params, 1 + N_SIGNS]``.

    The signs belong to the rows, whatever their order.
    """
    signs = np.empty((len(train.s), 1 + N_SIGNS))
    order = np.argsort(train.s, kind="stable")
    signs[order] = np.random.default_rng(0).choice([-1.0, 1.0], signs.shape)
    signs[:, 0] = 1
    product: np.ndarray = train.A.T @ (train.s[:, None] * signs)
    return product


def _finite(name: str, given: Any, n_axes: int) -> np.ndarray:
    array = _rows(name, given) if isinstance(given, LinearOperator) else np.asarray(given)
    if array.ndim != n_axes or array.dtype.kind not in "fiu":
        raise InputError(
            f"expected {name} of numbers with {n_axes} axes, found {array.dtype} {array.shape}"
        )
    if not np.isfinite(array).all():
        raise InputError(f"{name} has NaN or infinite values")
    return array.astype(np.float64)


def _rows(name: str, operator: LinearOperator) -> np.ndarray:
    """The matrix of a LinearOperator, by products with unit vectors on its smaller side."""
    n, n_params = operator.shape
    few = n < n_params
    if np.dtype(operator.dtype).kind != "f":
        raise InputError(f"expected {name} of real numbers, found {operator.dtype}")
    identity = np.eye(min(n, n_params), dtype=operator.dtype)
    product = operator.rmatmat if few else operator.matmat
    blocks = np.array_split(identity, range(COLUMNS, len(identity), COLUMNS), axis=1)
    try:
        if few:
            operator.rmatvec(np.zeros(n, operator.dtype))
    except NotImplementedError:
        raise InputError(
            f"expected {name} with rmatvec, as it has fewer rows than columns, {operator.shape}"
        ) from None
    found = np.concatenate([np.asarray(product(block)) for block in blocks], axis=1)
    rows: np.ndarray = found.T if few else found
    vector = np.random.default_rng(0).standard_normal(n_params).astype(operator.dtype)
    expected, limit = operator.matvec(vector), float(np.finfo(rows.dtype).eps) ** 0.5
    if np.linalg.norm(rows @ vector - expected) > limit * np.linalg.norm(expected):
        raise InputError(f"rmatvec of {name} is not the transpose of its matvec")
    return rows


def _weights(given: Weights, rows: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """w_i ``[n]``."""
    if given is None or isinstance(given, Mapping):
        of_terms = dict(given or {})
        if unknown := sorted(of_terms.keys() - rows.keys()):
            raise InputError(f"no loss term {unknown[0]}, expected some of {', '.join(rows)}")
        w = np.empty(n)
        for name, here in rows.items():
            w[here] = of_terms.get(name, 1.0) / max(1, len(here))
    else:
        w = _finite("weights", given, 1)
    if len(w) != n or not (np.isfinite(w).all() and (w >= 0).all()):
        raise InputError(f"expected {n} weights of at least 0, found {w}")
    return w
