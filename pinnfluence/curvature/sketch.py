"""Few directions that hold the rows of a large matrix, from random sums of its rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor

from pinnfluence.curvature.operator import Curvature

N_SUMS = 4
"""Sums of the sketch into which a row goes."""

N_PROBES = 64
"""Rows that are kept as they are, for measurements."""

SMALLEST_DIRECTION = 1e-14
"""Of the sketch, relative to the largest, as a squared length: less is rounding."""

COLUMNS = 4096
"""Parameters that are treated in float64 at a time."""


class Sketch:
    """Random sums of the rows of A, which belong to points and terms, whatever the points' order.

    Where there are no more rows than sums, the sums are the rows.
    """

    def __init__(self, curvature: Curvature, rank: int, seed: int) -> None:
        collocation = curvature.loss.collocation
        place = np.empty(len(collocation), int)
        place[np.lexsort(collocation.x.T)] = np.arange(len(place))
        buckets, signs, chance = [], [], []
        for number, rows in enumerate(collocation.term_rows().values()):
            rng, shape = np.random.default_rng([seed, number]), (len(place), N_SUMS)
            buckets.append(rng.integers(0, rank, shape)[place[rows]])
            signs.append(rng.choice([-1.0, 1.0], shape)[place[rows]])
            chance.append(rng.random(len(place))[place[rows]])
        n = curvature.n_residuals
        self._buckets, self._signs = np.concatenate(buckets), np.concatenate(signs)
        if n <= rank:
            self._buckets, self._signs = np.arange(n)[:, None], np.ones((n, 1))
        drawn = np.argsort(np.concatenate(chance))[:N_PROBES]
        self._probe = np.full(n, -1)
        self._probe[drawn] = np.arange(len(drawn))

    def add(self, arrays: dict[str, np.ndarray], where: slice, rows: Tensor) -> None:
        """Add rows of A to the sums, and take the probes from them."""
        norms = rows.norm(dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
        scaled, sums = (rows / norms.sqrt()).cpu(), torch.from_numpy(arrays["sketch"])
        for buckets, signs in zip(self._buckets[where].T, self._signs[where].T, strict=True):
            here = torch.from_numpy(signs).to(scaled.dtype)[:, None]
            sums.index_add_(0, torch.from_numpy(buckets), here * scaled)
        if len(arrays["probes"]):
            (drawn,) = np.nonzero(self._probe[where] >= 0)
            arrays["probes"][self._probe[where][drawn]] = (rows[drawn] / norms[drawn]).cpu().numpy()


def orthonormal(rows: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal directions of rows ``[m, n_params]`` outside a basis; overwrites the rows.

    Also the rows in these directions, ``[m, rank]``. Gram matrices are summed in float64, and all
    is done twice, which makes good what rounding leaves.
    """
    coefficients = np.eye(len(rows))
    limit = 0.0
    for _ in range(2):
        inside = rows @ basis.T
        for columns in blocks(rows):
            rows[:, columns] -= inside @ basis[:, columns]
        gram = np.zeros((len(rows),) * 2)
        for _columns, block in in_float64(rows):
            gram += block @ block.T
        values, vectors = eigh(gram, driver="evr", check_finite=False)
        limit = limit or SMALLEST_DIRECTION * max(values.max(initial=0), 1e-300)
        values, vectors = values[values > limit], vectors[:, values > limit]
        turn = (vectors / np.sqrt(values)).T.astype(rows.dtype)
        for columns in blocks(rows):
            rows[: len(turn), columns] = turn @ rows[:, columns]
        rows = rows[: len(turn)]
        coefficients = coefficients @ (vectors * np.sqrt(values))
    return rows, coefficients


def product(rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """``rows @ vectors`` in float64, some columns of the rows at a time."""
    total = np.zeros((len(rows), vectors.shape[1]))
    for columns, block in in_float64(rows):
        total += block @ vectors[columns]
    return total


def in_float64(rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Some columns at a time, and which."""
    for columns in blocks(rows):
        yield columns, rows[:, columns].astype(np.float64)


def blocks(rows: np.ndarray) -> list[slice]:
    """Columns that are treated at a time."""
    return [slice(start, start + COLUMNS) for start in range(0, rows.shape[1], COLUMNS)]
