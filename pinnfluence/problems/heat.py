"""The heat equation with a source, whose solution is ``u = exp(-t) sin(pi x)``."""

import math

import numpy as np
import torch
from torch import Tensor

from pinnfluence.field.field import Field
from pinnfluence.problem.domain import Interval, SpaceTime
from pinnfluence.problem.equation import Equation
from pinnfluence.problem.parts import Drawing, Network, Sampling, Schedule
from pinnfluence.problem.problem import Problem
from pinnfluence.problem.reference import Reference
from pinnfluence.reference.grid import on_grid

DOMAIN = SpaceTime(Interval(0.0, 1.0), Interval(0.0, 1.0))
WIDE_DOMAIN = SpaceTime(Interval(-1.0, 1.0), Interval(0.0, 1.0))


def heat(f: Field) -> dict[str, Tensor]:
    source = (math.pi**2 - 1) * torch.exp(-f.t) * torch.sin(math.pi * f.x)
    return {"heat": f.u_t - f.u_xx - source}


def boundary(f: Field) -> dict[str, Tensor]:
    return {"boundary": f.u}


def initial(f: Field) -> dict[str, Tensor]:
    return {"initial": f.u - torch.sin(math.pi * f.x)}


def solution(x: np.ndarray) -> dict[str, np.ndarray]:
    """The exact u at points ``[n, 2]`` of x and t, ``[n]``."""
    place, time = np.asarray(x, np.float64).T
    return {"u": np.exp(-time) * np.sin(np.pi * place)}


def reference() -> Reference:
    """The exact solution at 101 x 101 points."""
    axis = np.linspace(0, 1, 101)
    return on_grid(solution, (axis, axis))


def wide_reference() -> Reference:
    """The exact solution from x = -1 to 1 at 201 x 101 points."""
    return on_grid(solution, (np.linspace(-1, 1, 201), np.linspace(0, 1, 101)))


BAD = {"num_domain": 10, "num_boundary": 2, "num_initial": 2}
WIDE = {
    "domain": WIDE_DOMAIN,
    "conditions": {
        "dirichlet": (
            Equation(boundary, WIDE_DOMAIN.at_boundary),
            Equation(initial, DOMAIN.at_start, group="initial"),
        )
    },
    "reference": wide_reference,
}

PROBLEM = Problem(
    name="heat",
    inputs=("x", "t"),
    outputs=("u",),
    domain=DOMAIN,
    pde=heat,
    conditions={
        "dirichlet": (
            Equation(boundary, DOMAIN.at_boundary),
            Equation(initial, DOMAIN.at_start, group="initial"),
        )
    },
    sampling=Sampling(num_domain=1000, num_boundary=100, num_initial=100),
    network=Network(layers=(2, 32, 32, 32, 1), activation="tanh", scale=(1.0, 1.0)),
    schedule=Schedule(iterations={"adam": 500, "lm": 100}, dtype="float64"),
    drawing=Drawing({"u": ("$u$", "")}),
    variants={
        "good": {},
        "bad": BAD,
        "wide": WIDE,
        "wide_bad": {**WIDE, **BAD},
    },
    reference=reference,
)
