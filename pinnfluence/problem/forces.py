"""Drag, lift and pressure difference of a flow around a cylinder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

NEEDED = ("u_x", "u_y", "v_x", "v_y", "p")
FlowField = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""From points ``[n, 2]`` to ``u_x, u_y, v_x, v_y`` in 1/s and ``p`` in Pa, each ``[n]``."""


@dataclass(frozen=True)
class Forces:
    """Drag and lift coefficients ``2 F / (rho Ubar^2 D)``; dp, front minus back pressure in Pa."""

    drag: float
    lift: float
    dp: float


def cylinder_forces(
    field: FlowField,
    center: Sequence[float],
    radius: float,
    rho: float,
    nu: float,
    mean_velocity: float,
    n_points: int = 256,
) -> Forces:
    """Force of a flow on a cylinder from the stress on its circle.

    ``F = int sigma n ds`` with ``sigma = -p I + rho nu (grad u + grad u^T)`` and n pointing into
    the fluid, by the trapezoidal rule, which converges spectrally on a circle.

    Args:
        field: derivatives and pressure at points.
        center, radius: of the cylinder, in m.
        rho, nu: density in kg/m3 and kinematic viscosity in m2/s.
        mean_velocity: Ubar, in m/s.
        n_points: points on the circle.

    Source: Schaefer and Turek, Benchmark computations of laminar flow around a cylinder (1996).
    """
    angle = 2 * np.pi * np.arange(n_points) / n_points
    normal = np.stack([np.cos(angle), np.sin(angle)], 1)
    on_circle = field(np.asarray(center) + radius * normal)
    u_x, u_y, v_x, v_y, p = (np.asarray(on_circle[name], np.float64) for name in NEEDED)
    nx, ny = normal.T
    shear = rho * nu * (u_y + v_x)
    traction = [
        (2 * rho * nu * u_x - p) * nx + shear * ny,
        shear * nx + (2 * rho * nu * v_y - p) * ny,
    ]
    per_mean = 2 * np.pi * radius * 2 / (rho * mean_velocity**2 * 2 * radius)
    ends = np.asarray(center) + radius * np.array([[-1.0, 0.0], [1.0, 0.0]])
    front, back = np.asarray(field(ends)["p"], np.float64)
    drag, lift = (float(per_mean * t.mean()) for t in traction)
    return Forces(drag, lift, float(front - back))
