"""Drag, lift and pressure difference of a flow around a cylinder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

from pinnfluence.field.field import Field, FieldFunction

NEEDED = ("u_x", "u_y", "v_x", "v_y", "p")
T = TypeVar("T", np.ndarray, Tensor)
FlowField = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""From points ``[n, 2]`` to ``u_x, u_y, v_x, v_y`` in 1/s and ``p`` in Pa, each ``[n]``."""


@dataclass(frozen=True)
class Forces:
    """Drag and lift coefficients ``2 F / (rho Ubar^2 D)``; dp, front minus back pressure in Pa."""

    drag: float
    lift: float
    dp: float


@dataclass(frozen=True)
class Integral:
    """``sum_i weights_i f(x_i)`` of a field: x ``[n, 2]``, f a function of it, weights ``[n]``."""

    function: FieldFunction
    x: np.ndarray
    weights: np.ndarray


def traction(u_x: T, u_y: T, v_x: T, v_y: T, p: T, n: Sequence[T], mu: float) -> tuple[T, T]:
    """``sigma n`` with ``sigma = -p I + mu (grad u + grad u^T)``, mu the dynamic viscosity."""
    shear = mu * (u_y + v_x)
    return (2 * mu * u_x - p) * n[0] + shear * n[1], shear * n[0] + (2 * mu * v_y - p) * n[1]


def cylinder_integrals(
    center: Sequence[float],
    radius: float,
    rho: float,
    nu: float,
    mean_velocity: float,
    n_points: int = 256,
) -> dict[str, Integral]:
    """Drag, lift and dp as sums over points, by name: for influence, such as of new points.

    The numbers are those of ``cylinder_forces``; its arguments are these.

    >>> drag = cylinder_integrals(CENTER, RADIUS, RHO, NU, U_MEAN)["drag"]  # doctest: +SKIP
    >>> influence.candidates(points, drag.function, drag.x, drag.weights)   # doctest: +SKIP
    """

    def along(axis: int) -> FieldFunction:
        def force(f: Field) -> Tensor:
            normal = [(f.x - center[0]) / radius, (f.y - center[1]) / radius]
            return traction(f.u_x, f.u_y, f.v_x, f.v_y, f.p, normal, rho * nu)[axis]

        return force

    x, ends = _on_circle(center, radius, n_points)
    weights = np.full(n_points, _per_mean(radius, rho, mean_velocity) / n_points)
    return {
        "drag": Integral(along(0), x, weights),
        "lift": Integral(along(1), x, weights),
        "dp": Integral(lambda f: f.p, ends, np.array([1.0, -1.0])),
    }


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
    x, ends = _on_circle(center, radius, n_points)
    on_circle = field(x)
    u_x, u_y, v_x, v_y, p = (np.asarray(on_circle[name], np.float64) for name in NEEDED)
    normal = list(((x - center) / radius).T)
    forces = traction(u_x, u_y, v_x, v_y, p, normal, rho * nu)
    front, back = np.asarray(field(ends)["p"], np.float64)
    drag, lift = (_per_mean(radius, rho, mean_velocity) * float(t.mean()) for t in forces)
    return Forces(drag, lift, float(front - back))


def _on_circle(
    center: Sequence[float], radius: float, n_points: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points on the circle ``[n, 2]``, and its front and back ``[2, 2]``."""
    angle = 2 * np.pi * np.arange(n_points) / n_points
    circle = np.asarray(center) + radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    return circle, np.asarray(center) + radius * np.array([[-1.0, 0.0], [1.0, 0.0]])


def _per_mean(radius: float, rho: float, mean_velocity: float) -> float:
    """The coefficient that a mean traction of 1 on the circle gives."""
    return 2 * np.pi * radius * 2 / (rho * mean_velocity**2 * 2 * radius)
