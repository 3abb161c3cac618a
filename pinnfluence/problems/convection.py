"""A wave that is carried round a circle eight times: the standard case on which PINNs fail."""

import numpy as np
from torch import Tensor, sin

from pinnfluence.field.field import Field
from pinnfluence.problem.domain import Interval, SpaceTime
from pinnfluence.problem.equation import Equation
from pinnfluence.problem.parts import Drawing, Network, Sampling, Schedule
from pinnfluence.problem.problem import Problem
from pinnfluence.problem.reference import Reference
from pinnfluence.problems.drift_diffusion import LENGTH, other_end, periodic
from pinnfluence.reference.grid import on_grid

DOMAIN = SpaceTime(Interval(0.0, LENGTH), Interval(0.0, 1.0))
SPEED = 50.0


def convection(f: Field) -> dict[str, Tensor]:
    return {"convection": f.u_t + SPEED * f.u_x}


def initial(f: Field) -> dict[str, Tensor]:
    return {"initial": f.u - sin(f.x)}


def solution(x: np.ndarray) -> dict[str, np.ndarray]:
    """The exact u at points ``[n, 2]`` of x and t, ``[n]``."""
    place, time = np.asarray(x, np.float64).T
    return {"u": np.sin(place - SPEED * time)}


def reference() -> Reference:
    """The exact solution at 101 x 201 points."""
    return on_grid(solution, (np.linspace(0, LENGTH, 101), np.linspace(0, 1, 201)))


PROBLEM = Problem(
    name="convection",
    inputs=("x", "t"),
    outputs=("u",),
    domain=DOMAIN,
    pde=convection,
    conditions={
        "periodic": (
            Equation(periodic, DOMAIN.at_boundary, image=other_end),
            Equation(initial, DOMAIN.at_start, group="initial"),
        )
    },
    sampling=Sampling(num_domain=1000, num_boundary=100, num_initial=100),
    network=Network(layers=(2, 50, 50, 50, 50, 1), activation="tanh", scale=(LENGTH, 1.0)),
    schedule=Schedule(iterations={"adam": 500, "lm": 100}, dtype="float64"),
    drawing=Drawing({"u": ("$u$", "")}, ("u",)),
    variants={
        "good": {},
        "bad": {"num_domain": 200, "num_boundary": 20, "num_initial": 20},
    },
    reference=reference,
)

# Source: Krishnapriyan et al., Characterizing possible failure modes in physics-informed neural
# networks, NeurIPS 2021.
