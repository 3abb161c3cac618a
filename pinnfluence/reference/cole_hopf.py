"""Burgers' equation on the line, solved by the transformation of Cole and Hopf."""

import numpy as np

REACH = 12.0
"""The integrand beyond is below ``exp(-40)`` of its largest value, for the nu of the problem."""


def burgers(x: np.ndarray, t: np.ndarray, nu: float, step: float = 0.1) -> np.ndarray:
    """``u`` with ``u_t + u u_x = nu u_xx`` and ``u(x, 0) = -sin(pi x)``.

    ``u = -int sin(pi y) w dz / int w dz`` with ``w = exp(-z^2 - cos(pi y) / (2 pi nu))`` and
    ``y = x - 2 sqrt(nu t) z``, by the trapezoidal rule in z, which for such integrands converges
    faster than any power of its step.

    Args:
        x, t: places and times ``[n]``.
        nu: viscosity, at least about 0.003.
        step: of the trapezoidal rule.

    Source: Basdevant et al., Spectral and finite difference solutions of the Burgers equation,
    Computers and Fluids 14 (1986).
    """
    x, t = np.asarray(x, np.float64), np.asarray(t, np.float64)
    z = step * np.arange(-round(REACH / step), round(REACH / step) + 1)
    u = np.empty(len(x))
    for rows in np.array_split(np.arange(len(x)), max(1, len(x) // 2000)):
        angle = np.pi * (x[rows, None] - 2 * np.sqrt(nu * t[rows, None]) * z)
        exponent = -(z**2) - np.cos(angle) / (2 * np.pi * nu)
        weight = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        u[rows] = -(np.sin(angle) * weight).sum(axis=1) / weight.sum(axis=1)
    return u
