"""Two standing waves of a string, one four times as fast as the other."""

import math

import numpy as np
from torch import Tensor, sin

from pinnfluence.field.field import Field
from pinnfluence.problem.domain import TOLERANCE, Interval, SpaceTime
from pinnfluence.problem.equation import Equation
from pinnfluence.problem.parts import Drawing, Network, Sampling, Schedule
from pinnfluence.problem.problem import Problem
from pinnfluence.problem.reference import Reference
from pinnfluence.reference.grid import on_grid

DOMAIN = SpaceTime(Interval(0.0, 1.0), Interval(0.0, 1.0))
SPEED = 2.0


def wave(f: Field) -> dict[str, Tensor]:
    return {"wave": f.u_tt - SPEED**2 * f.u_xx}


def left(f: Field) -> dict[str, Tensor]:
    return {"left": f.u}


def right(f: Field) -> dict[str, Tensor]:
    return {"right": f.u}


def initial(f: Field) -> dict[str, Tensor]:
    shape = sin(math.pi * f.x) + sin(4 * math.pi * f.x) / 2
    return {"initial": f.u - shape, "velocity": f.u_t}


def at_left(x: np.ndarray) -> np.ndarray:
    return np.abs(x[:, 0]) <= TOLERANCE


def at_right(x: np.ndarray) -> np.ndarray:
    return np.abs(x[:, 0] - 1) <= TOLERANCE


def solution(x: np.ndarray) -> dict[str, np.ndarray]:
    """The exact u at points ``[n, 2]`` of x and t, ``[n]``."""
    place, time = np.pi * np.asarray(x, np.float64).T
    slow = np.sin(place) * np.cos(SPEED * time)
    return {"u": slow + np.sin(4 * place) * np.cos(4 * SPEED * time) / 2}


def reference() -> Reference:
    """The exact solution at 101 x 161 points."""
    return on_grid(solution, (np.linspace(0, 1, 101), np.linspace(0, 1, 161)))


PROBLEM = Problem(
    name="wave",
    inputs=("x", "t"),
    outputs=("u",),
    domain=DOMAIN,
    pde=wave,
    conditions={
        "dirichlet": (
            Equation(left, at_left),
            Equation(right, at_right),
            Equation(initial, DOMAIN.at_start, group="initial"),
        )
    },
    sampling=Sampling(num_domain=2500, num_boundary=500, num_initial=500),
    network=Network(layers=(2, *5 * (100,), 1), activation="tanh", scale=(1.0, 1.0)),
    schedule=Schedule(dtype="float64"),
    drawing=Drawing({"u": ("$u$", "")}, ("u",)),
    variants={"good": {}, "bad": {"iterations": {"adam": 100_000}}},
    reference=reference,
)
