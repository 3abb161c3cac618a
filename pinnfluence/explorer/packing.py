"""Embeddings made small: fewer factors, half precision, derived quantities, and what that costs.

All functions take the arrays of a score file: embeddings by loss term (``train``) and by quantity
(``test``), each with the rows of its points. A score is the product of one of each.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from pinnfluence.scores.embedding import Embedding

Side = Mapping[str, Embedding]
"""Embeddings by the name of a loss term or of a quantity."""

LARGEST = 2.0**15
"""Numbers are scaled up to this before they become float16, whose own limit is 65504."""

LESS = 0.01
"""Weight of relative errors that matter less, where factors are left out."""

DERIVED_ERROR = 1e-4
"""A quantity is derived from the outputs where that gives its embeddings to this relative error."""


def half(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Float16 ``codes`` and a power of two, ``scale``, with ``values ~ scale * codes``.

    All codes are normal numbers down to 2e-9 of the largest value.
    """
    largest = float(np.abs(values).max(initial=0.0))
    scale = float(2.0 ** np.ceil(np.log2(largest / LARGEST))) if largest > 0 else 1.0
    return (np.asarray(values, np.float64) / scale).astype(np.float16), scale


def from_half(codes: np.ndarray, scale: float) -> np.ndarray:
    """``scale * codes`` in float32, the numbers that the page computes with."""
    return (codes.astype(np.float64) * scale).astype(np.float32)


def narrow(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers ``codes`` up to 127, and ``scales`` ``[n]`` with ``values ~ scales codes``.

    Each row ``[rank]`` is off by at most half of its scale, its largest entry divided by 127.
    """
    scales = (np.abs(values).max(axis=1, initial=0.0) / 127).astype(np.float32)
    codes = values / np.where(scales > 0, scales, 1)[:, None]
    return np.rint(codes).astype(np.int8), scales


def from_narrow(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """``scales codes`` in float32, the numbers that the page computes with."""
    return codes.astype(np.float32) * scales[:, None]


def at_points(side: Side, chosen: np.ndarray, n_points: int) -> dict[str, Embedding]:
    """Embeddings at some of ``n_points`` points, given by their sorted numbers, counted anew."""
    place = np.full(n_points, -1, np.int32)
    place[chosen] = np.arange(len(chosen))
    return {
        name: Embedding(np.asarray(e.values[place[e.rows] >= 0]), rows[rows >= 0])
        for name, e in side.items()
        for rows in (place[e.rows],)
    }


def reduced(
    train: Side, test: Side, rank: int, less: Collection[str] = ()
) -> tuple[dict[str, Embedding], dict[str, Embedding]]:
    """Both sides with embeddings of at most the given rank; the same scores if they have no more.

    The balanced basis is used in any case: its products cancel less than those of eigenvectors,
    which halves what half precision costs. With all test embeddings stacked into A and all
    training embeddings into B, rows balanced to the size that they have in ``A B^T``, the leading
    singular vectors of ``A B^T`` are kept: the best common factors of that rank, in the sense of
    the sum of squares of relative errors. Those of the quantities ``less`` weigh ``LESS``: losses
    at test points, of which there are as many as of outputs, would take most of the factors.
    """
    A, B = (
        np.concatenate([e.values for e in side.values()]).astype(np.float64)
        for side in (test, train)
    )
    R_A, R_B = (_triangular(side) for side in (A, B))
    A /= _sizes(A @ R_B.T)
    B /= _sizes(B @ R_A.T)
    weights = [np.full(len(e.values), LESS if name in less else 1.0) for name, e in test.items()]
    A *= np.concatenate(weights)[:, None]
    R_A, R_B = (_triangular(side) for side in (A, B))
    U, values, Vt = np.linalg.svd(R_A @ R_B.T)
    rank = min(rank, int((values > 1e-14 * values[0]).sum()))
    roots = np.sqrt(values[:rank])
    # A ~ (A R_A^-1 U) S^1/2 without the inverse: the other side's factors give the same map.
    left = R_B.T @ Vt[:rank].T / roots
    right = R_A.T @ U[:, :rank] / roots
    small_train, small_test = (
        {name: Embedding((e.values @ to).astype(np.float32), e.rows) for name, e in side.items()}
        for side, to in ((train, right), (test, left))
    )
    return small_train, small_test


def _sizes(values: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.where(norms > 0, norms, 1.0)


def _triangular(values: np.ndarray) -> np.ndarray:
    """The factor R of the QR decomposition."""
    return np.asarray(np.linalg.qr(values, mode="r"))


def coefficients(test: Side, name: str, outputs: Sequence[str], n_points: int) -> np.ndarray | None:
    """What makes the embedding of a quantity from those of the outputs, ``[n_test, n_outputs]``.

    A function q of the outputs has, by the chain rule, at each point
    ``e_q(x) = sum_o dq/do(x) e_o(x)``; the derivatives follow by least squares, without knowing q.
    None where that does not give the embedding, as for a quantity of derivatives.
    """
    parts = [test[output] for output in outputs]
    if any(len(e.rows) < n_points for e in (*parts, test[name])):
        return None
    basis = np.stack([e.values for e in parts], axis=2).astype(np.float64)  # [n, rank, n_outputs]
    target = test[name].values.astype(np.float64)
    sizes = np.linalg.norm(basis, axis=1, keepdims=True)
    sizes[sizes == 0] = 1.0
    solved = np.linalg.pinv(basis / sizes, rcond=1e-6) @ target[:, :, None]
    factors = (solved[:, :, 0] / sizes[:, 0]).astype(np.float32)
    wrong = np.linalg.norm(np.einsum("nro,no->nr", basis, factors) - target, axis=1)
    # Relative to the point's outputs: a derivative that vanishes leaves rounding behind.
    right = np.maximum(np.linalg.norm(target, axis=1), 1e-3 * sizes.max(axis=(1, 2)))
    return factors if (wrong <= DERIVED_ERROR * right).all() else None


def typical(train: Side, test: Side, quantity: str, n: tuple[int, int]) -> dict[str, np.ndarray]:
    """Root mean squares of the scores of a quantity, of all loss terms together.

    Args:
        n: numbers of training and of test points.

    Returns:
        ``row`` ``[n_train]``, of each training point over all test points, and ``column``
        ``[n_test]``, of each test point over all training points.
    """
    B, A = (np.zeros((size, next(iter(train.values())).values.shape[1])) for size in n)
    for embedding in train.values():
        B[embedding.rows] += embedding.values
    A[test[quantity].rows] = test[quantity].values
    row, column = (
        np.sqrt(np.einsum("ij,ij->i", side @ (other.T @ other), side).clip(0) / len(other))
        for side, other in ((B, A), (A, B))
    )
    return {"row": row.astype(np.float32), "column": column.astype(np.float32)}


def errors(
    exact: tuple[Side, Side],
    shown: tuple[Side, Side],
    sums: Mapping[str, Sequence[str]],
    n_rows: int,
) -> dict[str, dict[str, Any]]:
    """By quantity, how far shown scores are from the exact ones, over rows and over columns.

    Both are pairs ``(train, test)``; ``sums`` are those of loss terms by name. The error of a row
    (one test point, all training points) is its largest difference over its largest score, that of
    a column (one training point) likewise. Median, 95th percentile and largest of both are taken
    over ``n_rows`` test points spread over all, and over each loss term of the training points
    alone and each sum; those of all terms ``together`` stand besides.
    """
    whole = [_total(train, list(train)) for train, _ in (exact, shown)]
    rights = [
        [_total(train, names) for train, _ in (exact, shown)]
        for names in ({name: [name] for name in exact[0]} | dict(sums)).values()
    ]
    table: dict[str, dict[str, Any]] = {}
    for quantity, names in ({name: [name] for name in exact[1]} | dict(sums)).items():
        lefts = [_total(test, names) for _, test in (exact, shown)]
        n = len(lefts[0])
        some = np.unique(np.linspace(0, n - 1, min(n_rows, n)).astype(int))
        pairs = [_relative(*(left[some] for left in lefts), *right) for right in rights]
        table[quantity] = {
            axis: _summary(np.concatenate(parts))
            for axis, parts in zip(("rows", "columns"), zip(*pairs, strict=True), strict=True)
        }
        together = _relative(*(left[some] for left in lefts), *whole)
        table[quantity]["together"] = {
            axis: _summary(part) for axis, part in zip(("rows", "columns"), together, strict=True)
        }
    return table


def _total(side: Side, names: Sequence[str]) -> np.ndarray:
    """The sum of some embeddings at the points on which one of them acts, ``[n, rank]``."""
    rows = np.unique(np.concatenate([np.zeros(0, int), *(side[name].rows for name in names)]))
    total = np.zeros((len(rows), next(iter(side.values())).values.shape[1]), np.float32)
    for name in names:
        total[np.searchsorted(rows, side[name].rows)] += side[name].values
    return total


def _relative(
    left: np.ndarray, shown_left: np.ndarray, right: np.ndarray, shown_right: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the rows and of the columns that are not zero."""
    true = left @ right.T
    wrong = np.abs(shown_left @ shown_right.T - true)
    np.abs(true, out=true)
    row, column = (
        wrong.max(axis, initial=0)[size > 0].astype(float) / size[size > 0]
        for axis in (1, 0)
        for size in (true.max(axis, initial=0).astype(float),)
    )
    return row, column


def _summary(values: np.ndarray) -> dict[str, float]:
    percentiles = np.percentile(values, [50, 95, 100]) if len(values) else np.zeros(3)
    return dict(zip(("median", "p95", "largest"), percentiles.tolist(), strict=True))
