"""Which share of the influence comes from some of the training points, in one pass over scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pinnfluence.scores.matrix import BLOCK_ELEMENTS, ScoreMatrix

Summed = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Selection(Protocol):
    """Training points that count: for each test point the same ones, or others."""

    def mask(self, rows: np.ndarray, /) -> np.ndarray:
        """Mask ``[n_train]``, or ``[n, n_train]`` for the test points ``rows`` ``[n]``."""
        ...


@dataclass(frozen=True)
class Fixed:
    """The same training points for all test points, a mask ``[n_train]``."""

    counts: np.ndarray

    def mask(self, rows: np.ndarray) -> np.ndarray:
        return self.counts


@dataclass(frozen=True)
class Below:
    """Training points with a smaller number than the test point, ``[n_train]`` and ``[n_test]``.

    The first one of a pass needs no mask: the points are sorted by it.
    """

    train: np.ndarray
    test: np.ndarray

    def mask(self, rows: np.ndarray) -> np.ndarray:
        return self.train < self.test[rows, None]


@dataclass(frozen=True)
class Pairs:
    """Any others: a function from test points ``[n]``, by index, to a mask ``[n, n_train]``.

    It is called for a block at a time, and again for each score matrix.
    """

    mask: Callable[[np.ndarray], np.ndarray]


def shares(
    matrix: ScoreMatrix, selections: Mapping[str, Selection], n_rows: int | None = None
) -> dict[str, np.ndarray]:
    """Shares ``sum_{j counts for i} A_ij / sum_j A_ij`` of the influence, one pass for all.

    With ``A_ij = |Inf(f(x_i); z_j)|``, whose sign and scale do not matter. Products are float32,
    sums float64.

    Args:
        matrix: scores ``[n_test, n_train]`` of one quantity.
        selections: which training points count, by name.
        n_rows: test points held at a time; the result depends on it by rounding only.

    Returns:
        By name, ``[n_test]``, NaN where the influence is zero.
    """
    first = next((s for s in selections.values() if isinstance(s, Below)), None)
    order, columns, n_below = _sorted(first, *matrix.shape)
    others = {n: _sum_of(s, columns) for n, s in selections.items() if s is not first}
    sums = {name: np.zeros(len(matrix)) for name in selections}
    total = np.zeros(len(matrix))
    for rows in _chunks(order, n_rows or _rows_of_a_block(matrix.shape[1])):
        block = np.abs(matrix[rows, columns])
        total[rows], below = _sums_below(block, n_below[rows])
        for name, found in sums.items():
            found[rows] = others[name](block, rows) if name in others else below
    total = np.where(total > 0, total, np.nan)
    return {name: found / total for name, found in sums.items()}


def uniform_shares(
    selections: Mapping[str, Selection], n_test: int, n_train: int
) -> dict[str, np.ndarray]:
    """What equal influence of all training points gives: shares of their number, ``[n_test]``."""
    found = {name: np.zeros(n_test) for name in selections}
    for rows in _chunks(np.arange(n_test), _rows_of_a_block(n_train)):
        for name, selection in selections.items():
            found[name][rows] = np.count_nonzero(selection.mask(rows), axis=-1) / n_train
    return found


def _sorted(
    first: Below | None, n_test: int, n_train: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Orders of the test and the training points in which those that count come first.

    Also how many of the training points count for each test point, ``[n_test]``.
    """
    if first is None:
        return np.arange(n_test), np.arange(n_train), np.zeros(n_test, int)
    columns = np.argsort(first.train, kind="stable")
    n_below = np.searchsorted(first.train[columns], first.test, side="left")
    return np.argsort(n_below, kind="stable"), columns, n_below


def _sum_of(selection: Selection, columns: np.ndarray) -> Summed:
    """Sums ``[n]`` over what counts in blocks ``[n, n_train]`` of columns in this order."""
    if isinstance(selection, Fixed):
        chosen = np.flatnonzero(selection.counts[columns])
        return lambda block, rows: block[:, chosen].sum(1, dtype=np.float64)

    def masked(block: np.ndarray, rows: np.ndarray) -> np.ndarray:
        mask = selection.mask(rows)[:, columns]
        return block.sum(1, dtype=np.float64, where=mask)

    return masked


def _rows_of_a_block(n_train: int) -> int:
    return max(1, BLOCK_ELEMENTS // max(1, n_train))


def _chunks(order: np.ndarray, n_rows: int) -> Iterator[np.ndarray]:
    for start in range(0, len(order), n_rows):
        yield order[start : start + n_rows]


def _sums_below(block: np.ndarray, n_below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over all columns, and over the first ``n_below`` ones.

    Rows come in the order of ``n_below``, so only the few columns between the first row's and the
    last row's count need a mask.
    """
    first, last = n_below[0], n_below[-1]
    before = block[:, :first].sum(1, dtype=np.float64)
    between = block[:, first:last]
    counts = np.arange(first, last) < n_below[:, None]
    after = block[:, last:].sum(1, dtype=np.float64)
    below = before + between.sum(1, dtype=np.float64, where=counts)
    return before + between.sum(1, dtype=np.float64) + after, below
