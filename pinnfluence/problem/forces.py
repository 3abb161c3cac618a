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
    """``sum_i weights_i f(x_i)``: x ``[n, 2]``, f a function of a field, weights ``[n]``."""

    function: FieldFunction
    x: np.ndarray
    weights: np.ndarray


def traction(u_x: T, u_y: T, v_x: T, v_y: T, p: T, n: Sequence[T], mu: float) -> tuple[T, T]:
    """``sigma n`` with ``sigma = -p I + mu (grad u + grad u^T)``, mu the dynamic viscosity."""
    shear = mu * (u_y + v_x)
    return (2 * mu * u_x - p) * n[0] + shear * n[1], shear * n[0] + (2 * mu * v_y - p) * n[1]


@dataclass(frozen=True)
class Cylinder:
    """A cylinder in a flow, and the forces on it from the stress on its circle.

    ``F = int sigma n ds`` with ``sigma = -p I + rho nu (grad u + grad u^T)`` and n pointing into
    the fluid, by the trapezoidal rule, which converges spectrally on a circle.

    Args:
        center, radius: in m.
        rho, nu: density in kg/m3 and kinematic viscosity in m2/s.
        mean_velocity: Ubar, in m/s.
        n_points: points on the circle.

    Source: Schaefer and Turek, Benchmark computations of laminar flow around a cylinder (1996).
    """

    center: Sequence[float]
    radius: float
    rho: float
    nu: float
    mean_velocity: float
    n_points: int = 256

    def forces(self, field: FlowField) -> Forces:
        """Forces of a flow, from its derivatives and pressure at points."""
        on_circle = field(self._circle)
        u_x, u_y, v_x, v_y, p = (np.asarray(on_circle[name], np.float64) for name in NEEDED)
        normal = list(((self._circle - self.center) / self.radius).T)
        tractions = traction(u_x, u_y, v_x, v_y, p, normal, self.rho * self.nu)
        front, back = np.asarray(field(self._ends)["p"], np.float64)
        drag, lift = (self._per_mean * float(t.mean()) for t in tractions)
        return Forces(drag, lift, float(front - back))

    def integrals(self) -> dict[str, Integral]:
        """The same numbers as sums over points, by name: for influence, such as of new points.

        >>> drag = cylinder.integrals()["drag"]                              # doctest: +SKIP
        >>> influence.candidates(points, drag.function, drag.x, drag.weights)  # doctest: +SKIP
        """

        def along(axis: int) -> FieldFunction:
            def force(f: Field) -> Tensor:
                (x, y), mu = self.center, self.rho * self.nu
                normal = [(f.x - x) / self.radius, (f.y - y) / self.radius]
                return traction(f.u_x, f.u_y, f.v_x, f.v_y, f.p, normal, mu)[axis]

            return force

        weights = np.full(self.n_points, self._per_mean / self.n_points)
        return {
            "drag": Integral(along(0), self._circle, weights),
            "lift": Integral(along(1), self._circle, weights),
            "dp": Integral(lambda f: f.p, self._ends, np.array([1.0, -1.0])),
        }

    @property
    def _circle(self) -> np.ndarray:
        """Points on the circle, ``[n_points, 2]``."""
        angle = 2 * np.pi * np.arange(self.n_points) / self.n_points
        return np.asarray(self.center) + self.radius * np.stack([np.cos(angle), np.sin(angle)], 1)

    @property
    def _ends(self) -> np.ndarray:
        """Its front and back, ``[2, 2]``."""
        return np.asarray(self.center) + self.radius * np.array([[-1.0, 0.0], [1.0, 0.0]])

    @property
    def _per_mean(self) -> float:
        """The coefficient that a mean traction of 1 on the circle gives."""
        pressure = self.rho * self.mean_velocity**2 / 2
        return 2 * np.pi * self.radius / (pressure * 2 * self.radius)
