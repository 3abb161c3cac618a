"""Score files in the published layout: whole matrices, float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pinnfluence.scores.convention import factor_of
from pinnfluence.scores.matrix import DenseMatrix, ScoreMatrix
from pinnfluence.storage.files import Rows, write_npz

DENSE_FILE_NAME = "influence_arrs.npz"

PUBLISHED_LOSSES = {"pde": "influences_pde", "bcs": "bcs", "all": "all_loss_terms"}
"""Keys of the published dense layout for the three losses; outputs are ``output_dim_<i>``."""


class DenseScores(Mapping[str, ScoreMatrix]):
    """Scores of a dense file in the published layout, under the names of ``Scores``.

    ``outputs`` names ``output_dim_0, ...`` in order, for instance ``("u", "v", "p", "speed")``.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], outputs: Sequence[str]) -> None:
        names = published_keys(outputs)
        self._keys = {key: names[key] for key in arrays if key in names}
        self._arrays = {name: arrays[key] for key, name in self._keys.items()}
        if not self._arrays:
            raise ValueError(f"none of the keys {', '.join(names)} found, only {', '.join(arrays)}")
        self.train_x, self.test_x = arrays.get("train_x"), arrays.get("test_x")
        points = (self.test_x, self.train_x)
        for name, array in self._arrays.items():
            sizes = zip(array.shape, points, strict=False)
            expected = tuple(n if x is None else len(x) for n, x in sizes)
            if array.ndim != 2 or array.shape != expected:
                raise ValueError(f"scores of {name} have shape {array.shape}, expected {expected}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, quantity: str) -> ScoreMatrix:
        return self.matrix(quantity)

    def matrix(
        self, quantity: str, terms: None = None, scale: str = "removal", sign: str = "removal"
    ) -> ScoreMatrix:
        """Scores of one quantity, shape ``[n_test, n_train]``; see ``Scores.matrix``."""
        if terms is not None:
            raise ValueError("a dense score file holds sums over all loss terms, not single terms")
        if quantity not in self._arrays:
            raise KeyError(f"no quantity {quantity!r}, expected one of {', '.join(self)}")
        array = self._arrays[quantity]
        return DenseMatrix(array, factor_of(sign, scale, array.shape[1], None))

    def save(self, path: str | Path) -> Path:
        """Write the arrays to ``influence_arrs.npz``, from which ``load_scores`` reads them."""
        if self.train_x is None or self.test_x is None:
            raise ValueError("scores without points cannot be saved: give train_x and test_x")
        matrices = {key: self[name] for key, name in self._keys.items()}
        return write_dense(path, matrices, self.train_x, self.test_x)


def write_dense(
    path: str | Path,
    matrices: Mapping[str, ScoreMatrix],
    train_x: np.ndarray,
    test_x: np.ndarray,
) -> Path:
    """Write matrices by key as float32 arrays, block by block; a folder gets the usual name.

    Raises:
        ValueError: the ending of the other score file.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        raise ValueError(f"expected a folder or a file .npz, found {path}")
    path = path if path.suffix == ".npz" else path / DENSE_FILE_NAME
    arrays: dict[str, Any] = {
        key: Rows(matrix.shape, partial(_dense_rows, matrix)) for key, matrix in matrices.items()
    }
    write_npz(path, arrays | {"train_x": train_x, "test_x": test_x})
    return path


def published_keys(outputs: Sequence[str]) -> dict[str, str]:
    """Quantities by their keys of the published layout."""
    keys = {f"output_dim_{i}": name for i, name in enumerate(outputs)}
    return keys | {key: quantity for quantity, key in PUBLISHED_LOSSES.items()}


def _dense_rows(matrix: ScoreMatrix) -> Iterator[np.ndarray]:
    return (block for _, block in matrix.blocks())
