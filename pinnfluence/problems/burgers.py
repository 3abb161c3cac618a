"""Burgers' equation with a viscosity so small that the wave steepens into a shock at x = 0."""

import math

import numpy as np
import torch
from torch import Tensor

from pinnfluence.field.field import Field
from pinnfluence.problem.domain import Interval, SpaceTime
from pinnfluence.problem.equation import Equation
from pinnfluence.problem.parts import Drawing, Network, Sampling, Schedule
from pinnfluence.problem.problem import Evaluate, Problem
from pinnfluence.problem.reference import Reference
from pinnfluence.reference import cole_hopf
from pinnfluence.reference.grid import on_grid

DOMAIN = SpaceTime(Interval(-1.0, 1.0), Interval(0.0, 1.0))
NU = 0.01 / math.pi

STEEPEST = 1.6037 / math.pi  # time at which the shock is steepest
SLOPE = -152.00516  # u_x there (Basdevant et al., 1986)


def burgers(f: Field) -> dict[str, Tensor]:
    return {"burgers": f.u_t + f.u * f.u_x - NU * f.u_xx}


def boundary(f: Field) -> dict[str, Tensor]:
    return {"boundary": f.u}


def initial(f: Field) -> dict[str, Tensor]:
    return {"initial": f.u + torch.sin(math.pi * f.x)}


def solution(x: np.ndarray) -> dict[str, np.ndarray]:
    """The exact u at points ``[n, 2]`` of x and t, ``[n]``."""
    place, time = np.asarray(x, np.float64).T
    return {"u": cole_hopf.burgers(place, time, NU)}


def reference() -> Reference:
    """The exact solution at 161 x 101 points, whose distance in x is 0.0018 at the shock."""
    graded = np.sinh(4 * np.linspace(-1, 1, 161)) / np.sinh(4)
    return on_grid(solution, (graded, np.linspace(0, 1, 101)))


def slope(field: Evaluate) -> dict[str, float]:
    """Slope of the shock when it is steepest, of a wave given by ``field``."""
    return {"slope": float(field(np.array([[0.0, STEEPEST]]), ["u_x"])["u_x"][0])}


PROBLEM = Problem(
    name="burgers",
    inputs=("x", "t"),
    outputs=("u",),
    domain=DOMAIN,
    pde=burgers,
    conditions={
        "dirichlet": (
            Equation(boundary, DOMAIN.at_boundary),
            Equation(initial, DOMAIN.at_start, group="initial"),
        )
    },
    sampling=Sampling(num_domain=2500, num_boundary=500, num_initial=500),
    network=Network(layers=(2, 32, 32, 32, 1), activation="tanh", scale=(1.0, 1.0)),
    schedule=Schedule(iterations={"adam": 500, "lm": 100}, dtype="float64"),
    drawing=Drawing({"u": ("$u$", "")}, ("u",)),
    variants={
        "good": {},
        "bad": {"num_domain": 500, "num_boundary": 100, "num_initial": 100},
    },
    reference=reference,
    measures=slope,
    benchmark={"slope": SLOPE},
)
