"""Embeddings made small: fewer factors, half precision, derived quantities, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pinnfluence.scores.embedding import Embedding
from pinnfluence.scores.file import Scores

LARGEST = 2.0**15
"""Numbers are scaled up to this before they become float16, whose own limit is 65504."""

DERIVED_ERROR = 1e-4
"""A quantity is derived from the outputs where that gives its embeddings to this relative error."""

BLOCK = 500
"""Test points whose scores are compared at a time."""


@dataclass(frozen=True)
class Half:
    """An array as ``scale * codes`` with float16 codes; the scale is a power of two."""

    codes: np.ndarray
    scale: float

    @classmethod
    def of(cls, values: np.ndarray) -> Half:
        """The nearest codes; all of them are normal numbers down to 2e-9 of the largest."""
        largest = float(np.abs(values).max(initial=0.0))
        scale = 2.0 ** np.ceil(np.log2(largest / LARGEST)) if largest > 0 else 1.0
        return cls((np.asarray(values, np.float64) / scale).astype(np.float16), float(scale))

    @property
    def values(self) -> np.ndarray:
        """What the page computes with, float32."""
        return (self.codes.astype(np.float64) * self.scale).astype(np.float32)


def reduced(scores: Scores, rank: int) -> Scores:
    """Scores with embeddings of at most the given rank, the same scores where they have no more.

    The balanced basis is used in any case: its products cancel less than those of eigenvectors,
    which halves what half precision costs. With all test embeddings stacked into A and all
    training embeddings into B, rows balanced to the size that they have in ``A B^T``, the leading
    singular vectors of ``A B^T`` are kept: the best common factors of that rank, in the sense of
    the sum of squares of relative errors.
    """
    A, B = (
        np.concatenate([e.values for e in side.values()]).astype(np.float64)
        for side in (scores.test, scores.train)
    )
    R_A, R_B = (_triangular(side) for side in (A, B))
    A /= _sizes(A @ R_B.T)
    B /= _sizes(B @ R_A.T)
    R_A, R_B = (_triangular(side) for side in (A, B))
    U, values, Vt = np.linalg.svd(R_A @ R_B.T)
    rank = min(rank, int((values > 1e-14 * values[0]).sum()))
    roots = np.sqrt(values[:rank])
    # A ~ (A R_A^-1 U) S^1/2 without the inverse: the other side's factors give the same map.
    left = R_B.T @ Vt[:rank].T / roots
    right = R_A.T @ U[:, :rank] / roots
    train, test = (
        {name: Embedding((e.values @ to).astype(np.float32), e.rows) for name, e in side.items()}
        for side, to in ((scores.train, right), (scores.test, left))
    )
    return Scores(scores.train_x, scores.test_x, train, test, scores.metadata)


def at_test_points(scores: Scores, chosen: np.ndarray) -> Scores:
    """The scores at some of the test points, given by their sorted row numbers."""
    place = np.full(len(scores.test_x), -1)
    place[chosen] = np.arange(len(chosen))
    test = {}
    for name, embedding in scores.test.items():
        kept = place[embedding.rows] >= 0
        values, rows = embedding.values[kept], place[embedding.rows[kept]]
        test[name] = Embedding(np.asarray(values), rows.astype(np.int32))
    return Scores(
        scores.train_x,
        scores.test_x[chosen],
        scores.train,
        test,
        scores.metadata,
        scores.eigenvalues,
    )


def coefficients(scores: Scores, name: str, outputs: Sequence[str]) -> np.ndarray | None:
    """What makes the embedding of a quantity from those of the outputs, ``[n_test, n_outputs]``.

    A function q of the outputs has, by the chain rule, at each point
    ``e_q(x) = sum_o dq/do(x) e_o(x)``; the derivatives follow by least squares, without knowing q.
    None where that does not give the embedding, as for a quantity of derivatives.
    """
    everywhere = np.arange(len(scores.test_x))
    parts = [scores.test[output] for output in outputs]
    if any(not np.array_equal(e.rows, everywhere) for e in (*parts, scores.test[name])):
        return None
    basis = np.stack([e.values for e in parts], axis=2).astype(np.float64)  # [n, rank, n_outputs]
    target = scores.test[name].values.astype(np.float64)
    sizes = np.linalg.norm(basis, axis=1, keepdims=True)
    sizes[sizes == 0] = 1.0
    solved = np.linalg.pinv(basis / sizes, rcond=1e-6) @ target[:, :, None]
    factors = (solved[:, :, 0] / sizes[:, 0]).astype(np.float32)
    wrong = np.linalg.norm(np.einsum("nro,no->nr", basis, factors) - target, axis=1)
    # Relative to the point's outputs: a derivative that vanishes leaves rounding behind.
    right = np.maximum(np.linalg.norm(target, axis=1), 1e-3 * sizes.max(axis=(1, 2)))
    return factors if (wrong <= DERIVED_ERROR * right).all() else None


def errors(exact: Scores, shown: Scores, n_rows: int) -> dict[str, dict[str, dict[str, float]]]:
    """By quantity, how far shown scores are from the exact ones, over rows and over columns.

    The error of a row (one test point, all training points) is its largest difference over its
    largest score, that of a column (one training point) likewise. Median, 95th percentile and
    largest of both are taken over ``n_rows`` test points spread over all, and over each loss term
    of the training points alone, ``pde``, ``bcs`` and all of them.
    """
    selections = [*exact.terms, *exact.groups]
    sides = [{name: _right(s, name) for name in selections} for s in (exact, shown)]
    found = {}
    for quantity in exact:
        rows = exact.acting_rows(quantity)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(n_rows, len(rows))).astype(int))]
        lefts = [_left(s, quantity)[rows] for s in (exact, shown)]
        by_row, by_column = [np.zeros(0)], [np.zeros(0)]
        for name in selections:
            row, column = _relative(lefts[0], lefts[1], sides[0][name], sides[1][name])
            by_row.append(row)
            by_column.append(column)
        found[quantity] = {
            "rows": _summary(np.concatenate(by_row)),
            "columns": _summary(np.concatenate(by_column)),
        }
    return found


def _left(scores: Scores, quantity: str) -> np.ndarray:
    """Embeddings of a quantity, or of the sum of several, ``[n_test, rank]``."""
    return _total(scores.test, scores.groups.get(quantity, [quantity]), len(scores.test_x))


def _right(scores: Scores, selection: str) -> np.ndarray:
    """Embeddings of the training points on which the selected terms act."""
    names = scores.groups.get(selection, [selection])
    rows = np.unique(np.concatenate([np.zeros(0, int), *(scores.train[n].rows for n in names)]))
    return _total(scores.train, names, len(scores.train_x))[rows]


def _total(side: Mapping[str, Embedding], names: Sequence[str], n: int) -> np.ndarray:
    rank = next(iter(side.values())).values.shape[1]
    total = np.zeros((n, rank), np.float32)
    for name in names:
        total[side[name].rows] += side[name].values
    return total


def _relative(
    left: np.ndarray, shown_left: np.ndarray, right: np.ndarray, shown_right: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the rows and of the columns that are not zero."""
    wrong_row, size_row = np.zeros((2, len(left)))
    wrong_column, size_column = np.zeros((2, len(right)))
    for start in range(0, len(left), BLOCK):
        rows = slice(start, start + BLOCK)
        true = left[rows] @ right.T
        wrong = np.abs(shown_left[rows] @ shown_right.T - true)
        np.abs(true, out=true)
        if true.size:
            wrong_row[rows], size_row[rows] = wrong.max(1), true.max(1)
            np.maximum(wrong_column, wrong.max(0), out=wrong_column)
            np.maximum(size_column, true.max(0), out=size_column)
    return (
        wrong_row[size_row > 0] / size_row[size_row > 0],
        wrong_column[size_column > 0] / size_column[size_column > 0],
    )


def _summary(values: np.ndarray) -> dict[str, float]:
    if len(values) == 0:
        return {"median": 0.0, "p95": 0.0, "largest": 0.0}
    median, p95 = np.percentile(values, [50, 95])
    return {"median": float(median), "p95": float(p95), "largest": float(values.max())}


def _sizes(values: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.where(norms > 0, norms, 1.0)


def _triangular(values: np.ndarray) -> np.ndarray:
    """The factor R of the QR decomposition."""
    return np.asarray(np.linalg.qr(values, mode="r"))
