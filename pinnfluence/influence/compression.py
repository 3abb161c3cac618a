"""Full-rank influence in few factors: the least rank that keeps a measured error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.sparse import csr_array

from pinnfluence.curvature.gram import BLOCK_BYTES, add_gram
from pinnfluence.curvature.inverse import Inverse
from pinnfluence.errors import InputError
from pinnfluence.influence.training_gradients import (
    TrainingGradients,
    solve_training,
    test_gradients,
    training_scores,
)
from pinnfluence.loss.pinn import Pinn

ERROR = 0.01
"""Largest relative error that is allowed, at the 95th percentile of the training points."""

SAMPLE_POINTS = 300
"""Test points from which the factors are made at first; a quarter as many of each condition."""

HELD_OUT_POINTS = 60
"""Other test points on which the error is measured; a quarter as many of each condition."""

LEAST_POINTS = 16
"""Sampled points whose gradients are made at a time, at least; of small networks more."""

BLOCK_ROWS = 4096
"""Training rows that are multiplied in float64 at a time; exact scores are kept in float32."""

SMALLEST_SINGULAR_VALUE = 1e-6
"""Relative to the norm: directions of less are left out; a Gram matrix in float64 has 1e-8."""


@dataclass(frozen=True)
class Factors:
    """Embeddings whose products are scores.

    basis: of the test points' gradients, ``[n_params, rank]``; its dtype is that of the products.
    train: embeddings of the training points by loss term, ``[n_k, rank]``. metadata: of a
    compression, its rank and errors. eigenvalues: ``[rank]``, if the basis is of eigenvectors.
    """

    basis: np.ndarray
    train: dict[str, np.ndarray]
    metadata: dict[str, Any] = field(default_factory=dict)
    eigenvalues: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class ExactScores:
    """Exact scores of single test rows: a quantity at one of the sampled points.

    scores: ``[n_rows, k]``, training rows (see ``TrainingGradients``) by test rows.
    rows: for each quantity its points (numbers in the sample) and its columns of ``scores``.
    """

    scores: np.ndarray
    rows: dict[str, tuple[np.ndarray, np.ndarray]]
    n_points: int

    def incidence(self, terms: list[str]) -> csr_array:
        """Sums of terms at a point as a matrix ``[k, n]``; n points at which one of them acts."""
        points = np.concatenate([self.rows[term][0] for term in terms])
        columns = np.concatenate([self.rows[term][1] for term in terms])
        _, number = np.unique(points, return_inverse=True)
        shape = (self.scores.shape[1], number.max(initial=-1) + 1)
        return csr_array((np.ones(len(points)), (columns, number)), shape=shape)

    def sizes(self) -> np.ndarray:
        """Root mean square of the scores of each row's quantity, ``[k]``; 1 where it is 0."""
        sizes = np.ones(self.scores.shape[1])
        for _, columns in self.rows.values():
            if len(columns):
                squares = np.square(self.scores[:, columns], dtype=np.float64)
                sizes[columns] = np.sqrt(squares.mean()) or 1.0
        return sizes

    def balanced(self) -> np.ndarray:
        """The scores over the sizes, float32 ``[n_rows, k]``."""
        return (self.scores / self.sizes()).astype(np.float32)


def exact_scores(
    samples: list[np.ndarray], inverse: Inverse, pinn: Pinn, train: TrainingGradients
) -> list[ExactScores]:
    """Exact scores ``G_f (M + damping I)^-1 G_train^T`` of samples of points, in one pass.

    Raises:
        InputError: NaN or infinite scores.
    """
    rows: list[dict[str, list[tuple[np.ndarray, np.ndarray]]]] = [{} for _ in samples]
    ends = [0]

    def columns() -> Iterator[np.ndarray]:
        n_points = max(LEAST_POINTS, BLOCK_BYTES // (8 * pinn.n_params))
        for x, of_sample in zip(samples, rows, strict=True):
            end = 0
            for start in range(0, len(x), n_points):
                block = x[start : start + n_points]
                for name, (points, G) in test_gradients(pinn, block, train.executor).items():
                    here = np.arange(end, end + len(G))
                    of_sample.setdefault(name, []).append((start + points, here))
                    end += len(G)
                    yield G.T
            ends.append(ends[-1] + end)

    product = training_scores(train, inverse, columns())
    if not np.isfinite(product).all():
        n_wrong = int((~np.isfinite(product).all(0)).sum())
        raise InputError(
            f"{n_wrong} of {product.shape[1]} quantities at sampled test points have NaN or "
            "infinite scores: check the points, or give a larger --damping"
        )
    results = []
    for number, of_sample in enumerate(rows):
        joined = {
            name: (np.concatenate([p for p, _ in parts]), np.concatenate([c for _, c in parts]))
            for name, parts in of_sample.items()
        }
        scores = product[:, ends[number] : ends[number + 1]]
        results.append(ExactScores(scores, joined, len(samples[number])))
    return results


def compress(inverse: Inverse, pinn: Pinn, train: TrainingGradients, test_x: np.ndarray) -> Factors:
    """Factors of the influence of all training points at the test points.

    With the gradients G_f of the quantities at sampled test points and G_l of the training points'
    losses by term, the exact scores ``S = G_f (M + damping I)^-1 G_l^T`` are balanced, a row by the
    size of its quantity and a column by its own norm D, and their leading right singular vectors V
    are taken. For any test point then

        Inf(f; l) ~ (grad f^T W) (V^T D),    W = (M + damping I)^-1 G_l^T D^-1 V,

    which are the exact scores, projected on the span of V. W is float32, as all embeddings are.

    The rank is the least at which, for each quantity, 95 % of the training points have a relative
    error (over test points that were held out) of at most ``ERROR``. Where no rank reaches that,
    twice as many points are sampled.
    """
    order, n_asked = _SampleOrder(pinn, test_x), SAMPLE_POINTS
    whitened = inverse.whitened_rows
    asked = [order.held] if whitened is not None else [order.held, order.take(n_asked)]
    held, *samples = exact_scores([test_x[points] for points in asked], inverse, pinn, train)
    while True:
        if whitened is None:
            span = _Span(np.concatenate([sample.balanced() for sample in samples], axis=1))
        else:
            span = _Span(train.factors()[:, None].astype(np.float32) * whitened)
        error = _Error(held, span, train, pinn)
        rank = error.least_rank()
        enough = whitened is not None or error.worst(rank) <= ERROR
        more = np.zeros(0, int) if enough else order.take(n_asked)
        if len(more) == 0:
            break
        samples += exact_scores([test_x[more]], inverse, pinn, train)
        n_asked *= 2
    V, D = span.V[:, :rank], span.norms[:, None]
    basis = solve_training(train, inverse, V / D).astype(np.float32, order="C")
    by_term = {name: (V[rows] * D[rows]).astype(np.float32) for name, rows in train.slices.items()}
    facts = {
        "rank": rank,
        "limit": ERROR,
        "n_sampled_points": sum(sample.n_points for sample in samples),
        "n_held_out_points": held.n_points,
        "errors": error.by_quantity(rank),
        "errors_of_parts": error.by_term(rank),
    }
    return Factors(basis, by_term, {"compression": facts})


class _SampleOrder:
    """Test points held out, and others to be taken one sample after another.

    By pseudo-random order of the points sorted by their coordinates; a part from each condition.
    """

    def __init__(self, pinn: Pinn, x: np.ndarray) -> None:
        rng = np.random.default_rng(0)
        place = np.empty(len(x), int)
        place[np.lexsort(x.T)] = rng.permutation(len(x))
        conditions = (rows for rows in pinn.at(x).points.rows if len(rows) < len(x))
        strata = [np.arange(len(x)), *conditions]
        self._strata = [rows[np.argsort(place[rows])] for rows in strata]
        self.held = np.arange(len(x))
        self._taken = np.zeros(len(x), bool)
        if len(x) > SAMPLE_POINTS:
            self.held = self._pick(HELD_OUT_POINTS, 4)
            self._taken[self.held] = True

    def take(self, n: int) -> np.ndarray:
        """Some more points, those held out last; none where all were taken."""
        picked = self._pick(n, 1)
        if len(picked) == 0 and len(self.held) < len(self._taken):
            picked, self.held = self.held, np.arange(len(self._taken))
        self._taken[picked] = True
        return picked

    def _pick(self, n: int, part: int) -> np.ndarray:
        picked: list[np.ndarray] = []
        for number, rows in enumerate(self._strata):
            free = rows[~self._taken[rows]]
            picked.append(free[: min(n if number == 0 else -(-n // 4), -(-len(free) // part))])
        return np.unique(np.concatenate(picked))


class _Span:
    """Right singular vectors of the balanced exact scores.

    V: ``[n_rows, k]``, the leading ones first. norms: D, ``[n_rows]``.
    """

    def __init__(self, balanced: np.ndarray) -> None:
        self.norms = np.sqrt(np.square(balanced, dtype=np.float64).sum(1))
        self.norms[self.norms == 0] = 1.0
        balanced /= self.norms[:, None].astype(np.float32)
        if len(balanced) < balanced.shape[1]:  # few training rows: V are the eigenvectors of B B^T
            self.V = _largest_eigenvectors(balanced.T)[1]
            return
        values, U = _largest_eigenvectors(balanced)
        U /= np.sqrt(values)
        self.V = np.concatenate([balanced[rows] @ U for rows in _row_blocks(balanced)])


def _largest_eigenvectors(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenpairs of ``rows^T rows``, falling, without those that rounding hides."""
    gram = np.zeros((rows.shape[1],) * 2, order="F")
    for block in _row_blocks(rows):
        gram = add_gram(gram, torch.from_numpy(rows[block]).double())
    least = SMALLEST_SINGULAR_VALUE**2 * np.trace(gram)
    values, U = eigh(gram, subset_by_value=(least, np.inf), driver="evr", check_finite=False)
    return values[::-1], U[:, ::-1]


def _row_blocks(rows: np.ndarray) -> list[slice]:
    return [slice(start, start + BLOCK_ROWS) for start in range(0, len(rows), BLOCK_ROWS)]


class _Error:
    """Relative errors of the held-out scores as a function of the rank."""

    def __init__(
        self, held: ExactScores, span: _Span, train: TrainingGradients, pinn: Pinn
    ) -> None:
        self._held, self._train, self._span = held, train, span
        self._inner = span.V.T @ (held.scores / span.norms[:, None])
        self._right = train.totals(span.V * span.norms[:, None])
        groups = {name: terms for name, terms in pinn.groups.items() if terms}
        self._sums = {name: held.incidence(terms) for name, terms in groups.items()}
        exact = train.totals(held.scores)
        self._exact = {name: self._of(name, exact) for name in [*held.rows, *groups]}

    def least_rank(self) -> int:
        """The least rank whose worst quantity is within the limit, by bisection; else all."""
        low, high = 0, self._span.V.shape[1]
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.worst(middle) <= ERROR else (middle, high)
        return high

    def worst(self, rank: int) -> float:
        """Largest error of a quantity, at the 95th percentile of the training points."""
        errors = self.by_quantity(rank).values()
        return max(found["training_points"]["p95"] for found in errors)

    def by_quantity(self, rank: int) -> dict[str, dict[str, dict[str, float]]]:
        """Median and 95th percentile over training points (columns) and test points (rows)."""
        totals, found = self._right[:, :rank] @ self._inner[:rank], {}
        for name, exact in self._exact.items():
            wrong = self._of(name, totals) - exact
            found[name] = {
                "training_points": _percentiles(wrong, exact, 1),
                "test_points": _percentiles(wrong, exact, 0),
            }
        return found

    def _of(self, name: str, scores: np.ndarray) -> np.ndarray:
        """Scores of a quantity or a sum of them, from ``[n_train, k]`` of all test rows."""
        if name in self._sums:
            return scores @ self._sums[name]
        return scores[:, self._held.rows[name][1]]

    def by_term(self, rank: int) -> dict[str, dict[str, float]]:
        """The same over training points, of each loss term alone and all quantities, balanced."""
        sizes, found = self._held.sizes(), {}
        for name, rows in self._train.slices.items():
            right = self._held.scores[rows] / sizes
            left = self._span.V[rows, :rank] * self._span.norms[rows, None]
            found[name] = _percentiles(left @ self._inner[:rank] / sizes - right, right, 1)
        return found


def _percentiles(wrong: np.ndarray, right: np.ndarray, axis: int) -> dict[str, float]:
    """Of the relative errors of rows or columns that are not zero."""
    size = np.linalg.norm(right, axis=axis)
    errors = np.linalg.norm(wrong, axis=axis)[size > 0] / size[size > 0]
    median, p95 = np.percentile(errors, [50, 95]) if len(errors) else (0.0, 0.0)
    return {"median": float(median), "p95": float(p95)}
