"""Scores of sampled test points with all training points, from which a compression is made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import csr_array

from pinnfluence.curvature.inverse import Inverse
from pinnfluence.curvature.inverse.base import Projected
from pinnfluence.errors import InputError
from pinnfluence.influence.training_gradients import (
    TrainingGradients,
    solve_training,
    test_gradients,
    training_scores,
)
from pinnfluence.loss.pinn import Pinn
from pinnfluence.runtime.devices import tensor_like
from pinnfluence.runtime.executor import Executor

BLOCK_ROWS = 4096
"""Training rows that are multiplied in float64 at a time."""

Rows = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""For each quantity its points (numbers in the sample) and its columns of the scores."""


class SampledScores:
    """Scores of single test rows: a quantity at one of the sampled points.

    Attributes:
        scores: ``[n_rows, k]``, training rows (see ``TrainingGradients``) by test rows.
        rows: points and columns by quantity.
        n_points: number of points in the sample.
    """

    scores: np.ndarray

    def __init__(self, rows: Rows, n_points: int) -> None:
        self.rows, self.n_points = rows, n_points

    @property
    def n_columns(self) -> int:
        """k, the number of test rows."""
        return sum(len(columns) for _, columns in self.rows.values())

    def incidence(self, terms: list[str]) -> csr_array:
        """Sums of terms at a point as a matrix ``[k, n]``; n points at which one of them acts."""
        points = np.concatenate([self.rows[term][0] for term in terms])
        columns = np.concatenate([self.rows[term][1] for term in terms])
        _, number = np.unique(points, return_inverse=True)
        shape = (self.n_columns, number.max(initial=-1) + 1)
        return csr_array((np.ones(len(points)), (columns, number)), shape=shape)

    def sizes(self) -> np.ndarray:
        """Root mean square of the scores of each row's quantity, ``[k]``; 1 where it is 0."""
        sizes = np.ones(self.n_columns)
        for _, columns in self.rows.values():
            if len(columns):
                sizes[columns] = np.sqrt(self._mean_square(columns)) or 1.0
        return sizes

    def _mean_square(self, columns: np.ndarray) -> float:
        return float(np.square(self.scores[:, columns], dtype=np.float64).mean())


class ExactScores(SampledScores):
    """Scores that were computed whole."""

    def __init__(self, scores: np.ndarray, rows: Rows, n_points: int) -> None:
        super().__init__(rows, n_points)
        self.scores = scores


class FactoredScores(SampledScores):
    """Scores as a product ``L C``, made when they are asked for, in float32.

    Args:
        left: L ``[n_rows, rank]``. gram: ``L^T L``. right: C ``[rank, k]``.
    """

    def __init__(
        self, left: _Left, gram: np.ndarray, right: np.ndarray, rows: Rows, n_points: int
    ) -> None:
        super().__init__(rows, n_points)
        self._left, self._gram, self.right = left, gram, right

    @cached_property
    def scores(self) -> np.ndarray:  # type: ignore[override]
        """``L C``."""
        return self._left.times(self.right)

    def _mean_square(self, columns: np.ndarray) -> float:
        C = self.right[:, columns]
        return float((C * (self._gram @ C)).sum() / (len(self._left.rows) * len(columns)))


class ScoreSource(ABC):
    """Where scores of sampled points come from: ``S = G_f (M + damping I)^-1 G_train^T``."""

    cheapness = 1
    """How many times more points may be sampled at once."""

    @abstractmethod
    def scores(self, samples: Sequence[np.ndarray]) -> list[SampledScores]:
        """Scores of samples of points, in one pass.

        Raises:
            InputError: NaN or infinite scores.
        """

    @abstractmethod
    def balanced(self, samples: Sequence[SampledScores]) -> np.ndarray:
        """Columns ``[n_rows, m]`` in float32 whose products ``B B^T`` are those of all samples'
        scores over the sizes of their quantities."""

    @abstractmethod
    def solve(self, coefficients: np.ndarray) -> np.ndarray:
        """``(M + damping I)^-1 G_train^T`` times columns ``[n_rows, k]``, ``[n_params, k]``."""


def score_source(inverse: Inverse, pinn: Pinn, train: TrainingGradients) -> ScoreSource:
    """Scores on the directions that the inverse knows, or by the whole inverse."""
    if inverse.projected is not None:
        return _OnDirections(inverse.projected, pinn, train)
    return _ByWholeInverse(inverse, pinn, train)


class _ByWholeInverse(ScoreSource):
    """With the gradients' rows, by solves."""

    def __init__(self, inverse: Inverse, pinn: Pinn, train: TrainingGradients) -> None:
        self._inverse, self._pinn, self._train = inverse, pinn, train

    def scores(self, samples: Sequence[np.ndarray]) -> list[SampledScores]:
        found = [test_gradients(self._pinn, x, self._train.executor) for x in samples]
        stacked = [G for gradients in found for _, G in gradients.values()]
        product = training_scores(self._train, self._inverse, np.concatenate(stacked).T)
        _check_finite(product)
        results: list[SampledScores] = []
        start = 0
        for x, gradients in zip(samples, found, strict=True):
            rows, end = _columns(gradients)
            results.append(ExactScores(product[:, start : start + end], rows, len(x)))
            start += end
        return results

    def balanced(self, samples: Sequence[SampledScores]) -> np.ndarray:
        return np.concatenate([(s.scores / s.sizes()).astype(np.float32) for s in samples], axis=1)

    def solve(self, coefficients: np.ndarray) -> np.ndarray:
        return solve_training(self._train, self._inverse, coefficients)


class _OnDirections(ScoreSource):
    """With the gradients projected on few directions; all is small but L ``[n_rows, rank]``."""

    cheapness = 2

    def __init__(self, projected: Projected, pinn: Pinn, train: TrainingGradients) -> None:
        self._projected, self._pinn, self._train = projected, pinn, train
        rows = projected.rows
        factors = train.factors()[:, None].astype(rows.dtype)
        self._left = _Left(factors * rows, train.executor)
        self._gram = np.zeros_like(projected.inner)
        for _, block in self._left.blocks():
            self._gram += block.T @ block
        like = pinn.like.float() if rows.dtype == np.float32 else pinn.like
        self._basis = tensor_like(projected.basis, like)

    def scores(self, samples: Sequence[np.ndarray]) -> list[SampledScores]:
        results: list[SampledScores] = []
        for x in samples:
            found = test_gradients(self._pinn, x, self._train.executor, self._basis)
            G = np.concatenate([G for _, G in found.values()])
            right = self._projected.inner @ G.T.astype(np.float64)
            _check_finite(right)
            rows, _ = _columns(found)
            results.append(FactoredScores(self._left, self._gram, right, rows, len(x)))
        return results

    def balanced(self, samples: Sequence[SampledScores]) -> np.ndarray:
        total = np.zeros_like(self._gram)
        for sample in samples:
            assert isinstance(sample, FactoredScores)
            C = sample.right / sample.sizes()
            total += C @ C.T
        values, vectors = eigh(total, driver="evr", check_finite=False)
        return self._left.times(vectors * np.sqrt(values.clip(0)))

    def solve(self, coefficients: np.ndarray) -> np.ndarray:
        inner = np.zeros((len(self._gram), coefficients.shape[1]))
        for here, block in self._left.blocks():
            inner += block.T @ coefficients[here]
        inner = self._projected.inner @ inner
        return self._projected.basis @ inner.astype(self._projected.basis.dtype)


class _Left:
    """A tall matrix ``[n_rows, rank]``, of which a block at a time is multiplied in float64."""

    def __init__(self, rows: np.ndarray, executor: Executor) -> None:
        self.rows, self._executor = rows, executor

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Blocks of rows, and which."""
        self._executor.expect(len(self.rows))
        for start in range(0, len(self.rows), BLOCK_ROWS):
            here = slice(start, start + BLOCK_ROWS)
            block = self.rows[here].astype(np.float64)
            yield here, block
            self._executor.advance(len(block))

    def times(self, right: np.ndarray) -> np.ndarray:
        """The product with ``[rank, k]``, kept in float32."""
        product = np.empty((len(self.rows), right.shape[1]), np.float32)
        for here, block in self.blocks():
            product[here] = block @ right
        return product


def _columns(found: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> tuple[Rows, int]:
    """Points and columns by quantity, and the number of all columns."""
    rows, end = {}, 0
    for name, (points, G) in found.items():
        rows[name] = points, np.arange(end, end + len(G))
        end += len(G)
    return rows, end


def _check_finite(scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        n_wrong = int((~np.isfinite(scores).all(0)).sum())
        raise InputError(
            f"{n_wrong} of {scores.shape[1]} quantities at sampled test points have NaN or "
            "infinite scores: check the points, or give a larger --damping"
        )
