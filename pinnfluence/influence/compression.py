"""Full-rank influence in few factors: the least rank that keeps a measured error."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh

from pinnfluence.curvature.gram import add_gram
from pinnfluence.curvature.inverse import Inverse
from pinnfluence.influence.sampled_scores import ExactScores, exact_scores
from pinnfluence.influence.training_gradients import TrainingGradients, solve_training
from pinnfluence.loss.pinn import Pinn

ERROR = 0.01
"""Largest relative error that is allowed, at the 95th percentile of the training points."""

SAMPLE_POINTS = 300
"""Test points from which the factors are made at first; a quarter as many of each condition."""

HELD_OUT_POINTS = 60
"""Other test points on which the error is measured; a quarter as many of each condition."""

BLOCK_ROWS = 4096
"""Training rows that are multiplied in float64 at a time."""

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


def compress(inverse: Inverse, pinn: Pinn, train: TrainingGradients, test_x: np.ndarray) -> Factors:
    """Factors of the influence of all training points at the test points.

    With the gradients G_f of the quantities at sampled test points and G_l of the training points'
    losses by term, the exact scores ``S = G_f (M + damping I)^-1 G_l^T`` are balanced, a row by the
    size of its quantity and a column by its own norm D, and their leading right singular vectors V
    are taken. For any test point then

        Inf(f; l) ~ (grad f^T W) (V^T D),    W = (M + damping I)^-1 G_l^T D^-1 V,

    which are the exact scores, projected on the span of V. W is float32, as all embeddings are.

    Of an inverse on few directions R, ``R R^T = (M + damping I)^-1``, all scores lie in the span of
    the columns of ``G_l R``: they take the place of S.

    The rank is the least at which, for each quantity, 95 % of the training points have a relative
    error (over test points that were held out) of at most ``ERROR``. Where no rank reaches that,
    twice as many points are sampled.
    """
    order = _SampleOrder(pinn, test_x)
    whitened = inverse.whitened_rows
    if whitened is None:
        error, n_sampled = _of_samples(order, inverse, pinn, train, test_x)
    else:
        (held,) = exact_scores([test_x[order.held]], inverse, pinn, train)
        whitened *= train.factors()[:, None]
        error, n_sampled = _Error(held, _Span(whitened), train, pinn), 0
    del whitened
    rank, left, D = error.rank, error.span.left, error.span.norms
    basis = solve_training(train, inverse, left[:, :rank] / np.square(D)[:, None])
    facts = {
        "rank": rank,
        "limit": ERROR,
        "n_sampled_points": n_sampled,
        "n_held_out_points": error.held.n_points,
        "errors": error.by_quantity(rank),
        "errors_of_parts": error.by_term(rank),
    }
    by_term = {name: left[rows, :rank].astype(np.float32) for name, rows in train.slices.items()}
    return Factors(basis.astype(np.float32, order="C"), by_term, {"compression": facts})


def _of_samples(
    order: _SampleOrder,
    inverse: Inverse,
    pinn: Pinn,
    train: TrainingGradients,
    test_x: np.ndarray,
) -> tuple[_Error, int]:
    """Errors on the span of as many sampled points' scores as are needed; their number."""
    n_asked = SAMPLE_POINTS
    asked = [test_x[order.held], test_x[order.take(n_asked)]]
    held, *samples = exact_scores(asked, inverse, pinn, train)
    while True:
        span = _Span(np.concatenate([sample.balanced() for sample in samples], axis=1))
        error = _Error(held, span, train, pinn)
        enough = error.worst(error.rank) <= ERROR
        if enough or len(more := order.take(n_asked)) == 0:
            return error, sum(sample.n_points for sample in samples)
        del span, error
        samples += exact_scores([test_x[more]], inverse, pinn, train)
        n_asked *= 2


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
    """Right singular vectors V of balanced scores, or of what has the same span.

    left: ``D V`` ``[n_rows, k]``, the leading ones first. norms: D, ``[n_rows]``.
    """

    def __init__(self, balanced: np.ndarray) -> None:
        self.norms = np.sqrt(np.square(balanced, dtype=np.float64).sum(1))
        self.norms[self.norms == 0] = 1.0
        D = self.norms[:, None]
        balanced /= D.astype(np.float32)
        if len(balanced) < balanced.shape[1]:  # few training rows: V are the eigenvectors of B B^T
            self.left = D * _largest_eigenvectors(balanced.T)[1]
            return
        values, U = _largest_eigenvectors(balanced)
        U /= np.sqrt(values)
        self.left = np.empty((len(balanced), len(values)))
        for rows in _row_blocks(balanced):
            self.left[rows] = D[rows] * (balanced[rows] @ U)


def _largest_eigenvectors(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenpairs of ``rows^T rows``, falling, without those that rounding hides."""
    gram = np.zeros((rows.shape[1],) * 2, order="F")
    for block in _row_blocks(rows):
        gram = add_gram(gram, torch.from_numpy(rows[block]).double())
    values, U = eigh(gram, driver="evr", check_finite=False, overwrite_a=True)
    kept = values >= SMALLEST_SINGULAR_VALUE**2 * values.sum()
    return values[kept][::-1], U[:, kept][:, ::-1]


def _row_blocks(rows: np.ndarray) -> list[slice]:
    return [slice(start, start + BLOCK_ROWS) for start in range(0, len(rows), BLOCK_ROWS)]


class _Error:
    """Relative errors of the held-out scores as a function of the rank."""

    def __init__(
        self, held: ExactScores, span: _Span, train: TrainingGradients, pinn: Pinn
    ) -> None:
        self.held, self.span, self._train = held, span, train
        self._inner = span.left.T @ (held.scores / np.square(span.norms)[:, None])
        self._right = train.totals(span.left)
        groups = {name: terms for name, terms in pinn.groups.items() if terms}
        self._sums = {name: held.incidence(terms) for name, terms in groups.items()}
        exact = train.totals(held.scores)
        self._exact = {name: self._of(name, exact) for name in [*held.rows, *groups]}

    @cached_property
    def rank(self) -> int:
        """The least rank whose worst quantity is within the limit, by bisection; else all."""
        low, high = 0, self.span.left.shape[1]
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.worst(middle) <= ERROR else (middle, high)
        return high

    def worst(self, rank: int) -> float:
        """Largest error of a quantity, at the 95th percentile of the training points."""
        pairs = self._compared(rank).values()
        return max(_percentiles(wrong, exact, 1)["p95"] for wrong, exact in pairs)

    def by_quantity(self, rank: int) -> dict[str, dict[str, dict[str, float]]]:
        """Median and 95th percentile over training points (columns) and test points (rows)."""
        return {
            name: {
                "training_points": _percentiles(wrong, exact, 1),
                "test_points": _percentiles(wrong, exact, 0),
            }
            for name, (wrong, exact) in self._compared(rank).items()
        }

    def _compared(self, rank: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What is wrong at a rank, and the exact scores, ``[n_train, n]`` by quantity."""
        totals = self._right[:, :rank] @ self._inner[:rank]
        return {
            name: (self._of(name, totals) - exact, exact) for name, exact in self._exact.items()
        }

    def _of(self, name: str, scores: np.ndarray) -> np.ndarray:
        """Scores of a quantity or a sum of them, from ``[n_train, k]`` of all test rows."""
        if name in self._sums:
            return scores @ self._sums[name]
        return scores[:, self.held.rows[name][1]]

    def by_term(self, rank: int) -> dict[str, dict[str, float]]:
        """The same over training points, of each loss term alone and all quantities, balanced."""
        sizes, found = self.held.sizes(), {}
        for name, rows in self._train.slices.items():
            exact = self.held.scores[rows] / sizes
            wrong = self.span.left[rows, :rank] @ self._inner[:rank] / sizes - exact
            found[name] = _percentiles(wrong, exact, 1)
        return found


def _percentiles(wrong: np.ndarray, right: np.ndarray, axis: int) -> dict[str, float]:
    """Of the relative errors of rows or columns that are not zero."""
    size = np.linalg.norm(right, axis=axis)
    errors = np.linalg.norm(wrong, axis=axis)[size > 0] / size[size > 0]
    median, p95 = np.percentile(errors, [50, 95]) if len(errors) else (0.0, 0.0)
    return {"median": float(median), "p95": float(p95)}
