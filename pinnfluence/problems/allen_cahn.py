"""The Allen-Cahn equation: two phases part, and fronts of width 0.02 stand between them."""

import math
from functools import cache

import numpy as np
from torch import Tensor, cos

from pinnfluence.field.field import Field
from pinnfluence.problem.domain import TOLERANCE, Interval, SpaceTime
from pinnfluence.problem.equation import Equation
from pinnfluence.problem.parts import Drawing, Network, Sampling, Schedule
from pinnfluence.problem.problem import Problem
from pinnfluence.problem.reference import Reference
from pinnfluence.reference import chebyshev
from pinnfluence.reference.grid import on_grid

DOMAIN = SpaceTime(Interval(-1.0, 1.0), Interval(0.0, 1.0))
DIFFUSION, RATE = 0.001, 5.0


def allen_cahn(f: Field) -> dict[str, Tensor]:
    return {"allen_cahn": f.u_t - DIFFUSION * f.u_xx + RATE * (f.u**3 - f.u)}


def left(f: Field) -> dict[str, Tensor]:
    return {"left": f.u + 1}


def right(f: Field) -> dict[str, Tensor]:
    return {"right": f.u + 1}


def initial(f: Field) -> dict[str, Tensor]:
    return {"initial": f.u - f.x**2 * cos(math.pi * f.x)}


def at_left(x: np.ndarray) -> np.ndarray:
    return np.abs(x[:, 0] + 1) <= TOLERANCE


def at_right(x: np.ndarray) -> np.ndarray:
    return np.abs(x[:, 0] - 1) <= TOLERANCE


@cache
def solve(n: int) -> chebyshev.Solution:
    """The solution by polynomials of degree n in x."""
    return chebyshev.evolve(
        lambda u, u_xx: DIFFUSION * u_xx - RATE * (u**3 - u),
        lambda place: place**2 * np.cos(math.pi * place),
        n,
    )


def solution(x: np.ndarray) -> dict[str, np.ndarray]:
    """u at points ``[n, 2]`` of x and t, ``[n]``; degree 448, right to 3e-8."""
    return {"u": solve(448)(*np.asarray(x, np.float64).T)}


def reference() -> Reference:
    """The solution at 201 x 101 points."""
    return on_grid(solution, (np.linspace(-1, 1, 201), np.linspace(0, 1, 101)))


PROBLEM = Problem(
    name="allen_cahn",
    inputs=("x", "t"),
    outputs=("u",),
    domain=DOMAIN,
    pde=allen_cahn,
    conditions={
        "dirichlet": (
            Equation(initial, DOMAIN.at_start, group="initial"),
            Equation(right, at_right),
            Equation(left, at_left),
        )
    },
    sampling=Sampling(num_domain=2500, num_boundary=500, num_initial=500),
    network=Network(layers=(2, 64, 64, 64, 1), activation="tanh", scale=(1.0, 1.0)),
    schedule=Schedule(iterations={"adam": 500, "lm": 100}, dtype="float64"),
    drawing=Drawing({"u": ("$u$", "")}, ("u",)),
    variants={"good": {}, "bad": {"iterations": {"adam": 100_000}}},
    reference=reference,
)
