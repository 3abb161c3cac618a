"""Matrices of influence scores that are computed block by block and never made whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

BLOCK_ELEMENTS = 2**21
"""Elements of one dense block: 8 MiB of float32, small enough for a processor's cache."""


class ScoreMatrix(ABC):
    """Influence scores, an array of shape ``[n_test, n_train]`` that is never made whole.

    Entry ``[i, j]`` is the influence ``Inf(f(x_i); z_j)`` of training point j on the quantity f
    at test point i: positive means that removing the training point raises f there.
    Index it (``m[3]``, ``m[:, 7]``, ``m[:100, mask]``; two lists choose rows and columns) to get a
    dense block, or reduce it with ``sum``, ``mean``, ``abs_sum`` and ``abs_mean``, which hold one
    block at a time.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any] = np.dtype(np.float32)
    ndim = 2

    @abstractmethod
    def _block(self, rows: Any, columns: Any) -> np.ndarray:
        """Dense block of the chosen rows and columns; both are slices or index arrays."""

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        (rows, one_row), (columns, one_column) = (
            _as_selection(selection, length, axis)
            for axis, (selection, length) in enumerate(
                zip((rows, columns), self.shape, strict=True)
            )
        )
        block = self._block(rows, columns)
        if one_row and one_column:
            return block[0, 0]
        return block[0] if one_row else block[:, 0] if one_column else block

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        for rows, block in self.blocks():
            del rows
            yield from block

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        dense = np.empty(self.shape, dtype or self.dtype)
        for rows, block in self.blocks():
            dense[rows] = block
        return dense

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_test={self.shape[0]}, n_train={self.shape[1]})"

    def blocks(self, n_rows: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield ``(rows, block)`` over all test points, ``n_rows`` of them at a time."""
        if n_rows is None:
            n_rows = max(1, BLOCK_ELEMENTS // max(1, self.shape[1]))
        if n_rows < 1:
            raise ValueError(f"n_rows must be at least 1, found {n_rows}")
        for start in range(0, self.shape[0], n_rows):
            rows = slice(start, min(start + n_rows, self.shape[0]))
            yield rows, self._block(rows, slice(None))

    def sum(self, axis: int | None = None) -> np.ndarray | float:
        """Sum of the scores over test points (axis 0), training points (axis 1) or both."""
        return self._summed(axis, lambda block: block)

    def abs_sum(self, axis: int | None = None) -> np.ndarray | float:
        """Sum of ``|Inf|`` over test points (axis 0), training points (axis 1) or both."""
        return self._summed(axis, _abs_in_place)

    def mean(self, axis: int | None = None) -> np.ndarray | float:
        """Mean of the scores over test points (axis 0), training points (axis 1) or both."""
        return self.sum(axis) / self._count(axis)

    def abs_mean(self, axis: int | None = None) -> np.ndarray | float:
        """Mean of ``|Inf|`` over test points (axis 0), training points (axis 1) or both."""
        return self.abs_sum(axis) / self._count(axis)

    def _count(self, axis: int | None) -> int:
        return self.shape[0] * self.shape[1] if axis is None else self.shape[axis]

    def _summed(self, axis: int | None, transform: Any) -> np.ndarray | float:
        axis = _checked(axis)
        parts = [
            transform(block).sum(axis=1 if axis == 1 else 0, dtype=np.float64)
            for _, block in self.blocks()
        ]
        if axis == 1:
            return np.concatenate(parts)
        columns: np.ndarray = np.sum(parts, axis=0)
        return columns if axis == 0 else float(columns.sum())


class FactoredMatrix(ScoreMatrix):
    """Scores ``left @ right.T`` of embeddings ``[n_test, rank]`` and ``[n_train, rank]``."""

    def __init__(self, left: np.ndarray, right: np.ndarray) -> None:
        if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
            raise ValueError(
                "embeddings must have shapes [n_test, rank] and [n_train, rank], "
                f"found {left.shape} and {right.shape}"
            )
        self.left, self.right = left, right
        self.shape = (left.shape[0], right.shape[0])

    def _block(self, rows: Any, columns: Any) -> np.ndarray:
        return self.left[rows] @ self.right[columns].T

    def sum(self, axis: int | None = None) -> np.ndarray | float:
        left, right = self.left.astype(np.float64), self.right.astype(np.float64)
        axis = _checked(axis)
        if axis is None:
            return float(left.sum(0) @ right.sum(0))
        return right @ left.sum(0) if axis == 0 else left @ right.sum(0)


class DenseMatrix(ScoreMatrix):
    """Scores read from an array ``[n_test, n_train]``, usually a memory map; times ``factor``."""

    def __init__(self, array: np.ndarray, factor: float = 1.0) -> None:
        self.array, self.factor = array, np.float32(factor)
        self.shape = (array.shape[0], array.shape[1])

    def _block(self, rows: Any, columns: Any) -> np.ndarray:
        return np.array(self.array[rows][:, columns], dtype=np.float32) * self.factor


def _checked(axis: int | None) -> int | None:
    if axis not in (None, 0, 1, -1, -2):
        raise ValueError(f"axis must be 0 (test points), 1 (training points) or None, found {axis}")
    return None if axis is None else axis % 2


def _abs_in_place(block: np.ndarray) -> np.ndarray:
    return np.abs(block, out=block)


def _as_selection(selection: Any, length: int, axis: int) -> tuple[Any, bool]:
    """A slice or index array for one axis, and whether it was a single index."""
    if isinstance(selection, slice):
        return selection, False
    index = np.asarray(selection)
    if index.dtype == bool:
        if index.shape != (length,):
            raise IndexError(
                f"mask of axis {axis} must have shape ({length},), found {index.shape}"
            )
        return np.flatnonzero(index), False
    if index.ndim > 1 or index.dtype.kind not in "iu":
        raise IndexError(
            f"index of axis {axis} must be integers, a slice or a mask, found {selection!r}"
        )
    if index.size and (index.min() < -length or index.max() >= length):
        raise IndexError(f"index {selection} of axis {axis} is out of range for {length} points")
    return np.atleast_1d(index), index.ndim == 0
