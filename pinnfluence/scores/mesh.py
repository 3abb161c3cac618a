"""Triangles between the points of a plane domain."""

from __future__ import annotations

import numpy as np
from scipy.spatial import Delaunay, QhullError

from pinnfluence.problem.domain import TOLERANCE, Shape


def triangles_of(
    points: np.ndarray, domain: Shape | None = None, lengths: np.ndarray | None = None
) -> np.ndarray:
    """Delaunay triangles ``[t, 3]`` of points ``[n, 2]``, without those outside the domain.

    Points on one line, or fewer than three, have no triangles.

    Args:
        domain: its holes stay empty; None fills the convex hull of the points.
        lengths: ``[2]``, of the axes, by which the coordinates are divided before: triangles then
            suit a drawing that makes these lengths equal.
    """
    x = np.asarray(points, np.float64)
    try:
        triangles = Delaunay(x if lengths is None else x / lengths).simplices
    except (QhullError, ValueError):
        return np.zeros((0, 3), np.int32)
    if domain is not None:
        triangles = triangles[domain.excess(x[triangles].mean(axis=1)) <= TOLERANCE]
    return triangles.astype(np.int32)
