"""Lattices of points on triangles: quadrature rules of their nodes, nodes that are shared."""

import math

import numpy as np


def lattice_rule(n: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes [3, m] of a Pn triangle and weights [m] that integrate up to this degree exactly.

    The nodes are barycentric coordinates times n, whole numbers. The weights sum to 1/2, the area
    of the reference triangle, and are those nearest to the lumped ones of its n^2 small triangles;
    they are positive for n = 6 and degree 5, but not for every pair.
    """
    nodes = np.array([(n - i - j, i, j) for j in range(n + 1) for i in range(n + 1 - j)]).T
    small_triangles = np.array([6, 3, 1])[(nodes == 0).sum(axis=0)]  # inside, edge, vertex
    lumped = small_triangles / (6 * n**2)
    powers = [(a, b) for a in range(degree + 1) for b in range(degree + 1 - a)]
    monomials = np.array([(nodes[1] / n) ** a * (nodes[2] / n) ** b for a, b in powers])
    factorial = math.factorial
    exact = [factorial(a) * factorial(b) / factorial(a + b + 2) for a, b in powers]
    correction = np.linalg.solve(monomials * lumped @ monomials.T, exact - monomials @ lumped)
    return nodes, lumped * (1 + correction @ monomials)


def merge_lattice(triangles: np.ndarray, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge the nodes that triangles [3, t] share, of t * m with triangles first.

    Returns the indices of the nodes to keep, and for each node its place among the kept. Nodes
    are distinguished by the vertices they lie between, not by rounded coordinates.
    """
    step = nodes.sum(axis=0).max() + 1
    between = np.where(nodes > 0, step * (triangles.T[:, :, None] + 1) + nodes, 0)
    key = np.sort(between, axis=1).transpose(0, 2, 1).reshape(-1, 3)
    _, kept, merged = np.unique(key, axis=0, return_index=True, return_inverse=True)
    return kept, merged.reshape(-1)
