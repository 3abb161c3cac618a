"""Full-rank influence in few factors: the least rank that keeps a measured error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh

from pinnfluence.curvature.gram import add_gram
from pinnfluence.curvature.inverse import Inverse
from pinnfluence.influence.sampled_scores import SampledScores, score_source
from pinnfluence.influence.training_gradients import TrainingGradients
from pinnfluence.loss.pinn import Pinn

ERROR = 0.01
"""Largest relative error that is allowed, at the 95th percentile of the training points."""

SAMPLE_POINTS = 300
"""Test points from which the factors are made at first; a quarter as many of each condition."""

HELD_OUT_POINTS = 60
"""Other test points on which the error is measured; a quarter as many of each condition."""

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
    order, source = _SampleOrder(pinn, test_x), score_source(inverse, pinn, train)
    n_asked = source.cheapness * SAMPLE_POINTS
    held, *samples = source.scores([test_x[order.held], test_x[order.take(n_asked)]])
    while True:
        span = _Span(source.balanced(samples))
        error = _Error(held, span, train, pinn)
        rank = error.least_rank()
        more = order.take(n_asked) if error.worst(rank) > ERROR else np.zeros(0, int)
        if len(more) == 0:
            break
        del span, error
        samples += source.scores([test_x[more]])
        n_asked *= 2
    V, D = span.V[:, :rank], span.norms[:, None]
    basis = source.solve(V / D).astype(np.float32, order="C")
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
        self, held: SampledScores, span: _Span, train: TrainingGradients, pinn: Pinn
    ) -> None:
        self._held, self._train, self._span = held, train, span
        self._inner = span.V.T @ (held.scores / span.norms[:, None])
        self._right = train.totals(span.V * span.norms[:, None])
        self._exact = train.totals(held.scores)
        groups = {name: terms for name, terms in pinn.groups.items() if terms}
        self._sums = {
            name: held.incidence(groups.get(name, [name])) for name in [*held.rows, *groups]
        }

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
        difference = self._right[:, :rank] @ self._inner[:rank] - self._exact
        found = {}
        for name, total in self._sums.items():
            wrong, right = difference @ total, self._exact @ total
            found[name] = {
                "training_points": _percentiles(wrong, right, 1),
                "test_points": _percentiles(wrong, right, 0),
            }
        return found

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
