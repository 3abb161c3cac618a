"""Embeddings of points, whose products are influence scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Embedding:
    """Embeddings ``[n_rows, rank]`` of the points ``rows``; those of others are zero."""

    values: np.ndarray
    rows: np.ndarray

    def whole(self, n_points: int) -> np.ndarray:
        """The embeddings of all ``n_points`` points, shape ``[n_points, rank]``."""
        whole = np.zeros((n_points, self.values.shape[1]), self.values.dtype)
        whole[self.rows] = self.values
        return whole

    def check(self, name: str, n_points: int, rank: int) -> None:
        """Raise ValueError where shape or rows do not fit."""
        n_rows = len(self.rows)
        is_index = self.rows.ndim == 1 and self.rows.dtype.kind in "iu"
        if not is_index or self.values.dtype.kind != "f":
            raise ValueError(f"{name}: expected floats and indices of their points")
        inside = n_rows == 0 or 0 <= self.rows[0] <= self.rows[-1] < n_points
        if self.values.shape != (n_rows, rank) or not inside:
            raise ValueError(f"{name}: shape {self.values.shape} does not fit {n_points} points")
        if (self.rows[1:] <= self.rows[:-1]).any():
            raise ValueError(f"{name}: its points are not in their order")
