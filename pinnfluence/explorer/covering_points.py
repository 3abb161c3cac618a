"""A few of many points that stand for a domain in a drawing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

NEIGHBOURS = 8
"""The local spacing of points is the distance to this neighbour."""

SHARE_OF_CONDITIONS = 0.25
"""At most this share of the points is set aside for those at which conditions act."""


def covering_points(
    points: np.ndarray, n: int, conditions: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """Indices, sorted, of at most ``n`` of the points ``[m, d]`` that cover all of them.

    Farthest points first: each new one is that with the largest ``distance / sqrt(spacing)``, its
    distance to those taken over the root of the local spacing of all. That lies between an even
    cover of the domain and the density of the points, so that fine regions stay finer. Points of
    conditions come first, so that boundaries keep their shape.

    Args:
        conditions: row numbers at which a condition acts, one array a condition.
    """
    if len(points) <= n:
        return np.arange(len(points))
    x = np.asarray(points, np.float64)
    spacing = cKDTree(x).query(x, k=min(NEIGHBOURS, len(x)))[0][:, -1]
    weight = 1 / np.maximum(spacing, 1e-12 * np.ptp(x, axis=0).max())
    special = np.unique(np.concatenate([np.zeros(0, int), *conditions])).astype(int)
    first = np.zeros(len(x))
    first[special] = weight[special]
    squares = np.full(len(x), 1e100)
    n_first = min(len(special), round(SHARE_OF_CONDITIONS * n))
    taken = _farthest(x.T, first, squares, n_first)
    taken += _farthest(x.T, weight, squares, n - len(taken))
    return np.sort(np.array(taken))


def _farthest(
    coordinates: np.ndarray, weight: np.ndarray, squares: np.ndarray, n: int
) -> list[int]:
    """At most ``n`` points of largest weighted ``squares``, which are kept up to date.

    ``squares`` are squared distances ``[m]`` from the points taken so far.
    """
    taken: list[int] = []
    for _ in range(n):
        new = int(np.argmax(squares * weight))
        if squares[new] * weight[new] == 0:  # only repeated points are left
            break
        taken.append(new)
        difference = coordinates - coordinates[:, new, None]
        np.minimum(squares, np.einsum("dn,dn->n", difference, difference), out=squares)
    return taken
