"""Equations ``u_t = g(u, u_xx)`` on [-1, 1] by collocation at Chebyshev points.

Source: Trefethen, Spectral Methods in MATLAB, SIAM 2000, chapters 6 and 13.
"""

from collections.abc import Callable

import numpy as np
from scipy.integrate import solve_ivp
from scipy.interpolate import BarycentricInterpolator

Right = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""g: from u and u_xx at the points to u_t there."""

Solution = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From places and times, ``[n_points]`` each, to u ``[n_points]``."""


def differentiation_matrix(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The points ``cos(pi k / n)`` ``[n + 1]``, and d/dx of polynomials by their values there."""
    x = np.cos(np.pi * np.arange(n + 1) / n)
    ends = np.where(np.isin(np.arange(n + 1), (0, n)), 2.0, 1.0) * (-1.0) ** np.arange(n + 1)
    D = np.outer(ends, 1 / ends) / (x[:, None] - x + np.eye(n + 1))
    return x, D - np.diag(D.sum(1))


def evolve(
    right: Right, start: Callable[[np.ndarray], np.ndarray], n: int, tolerance: float = 1e-10
) -> Solution:
    """u from time 0 to 1 with ends that stay as they are: polynomials of degree n in x.

    Time steps are those of a Runge-Kutta method for stiff equations (Radau IIA, order 5) with its
    dense output, at a relative and absolute tolerance.
    """
    x, D = differentiation_matrix(n)
    D2 = D @ D

    def slope(_: float, u: np.ndarray) -> np.ndarray:
        found = right(u, D2 @ u)
        found[[0, -1]] = 0
        return found

    found = solve_ivp(
        slope, (0, 1), start(x), "Radau", dense_output=True, rtol=tolerance, atol=tolerance
    )

    def at(place: np.ndarray, time: np.ndarray) -> np.ndarray:
        u = np.empty(len(place))
        for moment in np.unique(time):
            rows = time == moment
            u[rows] = BarycentricInterpolator(x, found.sol(moment))(place[rows])
        return u

    return at
