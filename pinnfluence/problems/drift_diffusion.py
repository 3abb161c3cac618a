"""Drift and diffusion on a circle: a wave that decays while it is carried round ten times."""

import math

import numpy as np
from torch import Tensor, sin

from pinnfluence.field.field import Field
from pinnfluence.problem.domain import Interval, SpaceTime
from pinnfluence.problem.equation import Equation
from pinnfluence.problem.parts import Drawing, Network, Sampling, Schedule
from pinnfluence.problem.problem import Problem
from pinnfluence.problem.reference import Reference
from pinnfluence.reference.grid import on_grid

LENGTH = 2 * math.pi
DOMAIN = SpaceTime(Interval(0.0, LENGTH), Interval(0.0, 1.0))
SPEED = 20.0


def drift_diffusion(f: Field) -> dict[str, Tensor]:
    return {"drift_diffusion": f.u_t - f.u_xx + SPEED * f.u_x}


def periodic(f: Field) -> dict[str, Tensor]:
    return {"periodic": f.u - f.image.u}


def initial(f: Field) -> dict[str, Tensor]:
    return {"initial": f.u - sin(math.pi / 4 + 2 * f.x)}


def other_end(x: np.ndarray) -> np.ndarray:
    return np.column_stack([np.where(x[:, 0] < LENGTH / 2, LENGTH, 0.0), x[:, 1]])


def solution(x: np.ndarray) -> dict[str, np.ndarray]:
    """The exact u at points ``[n, 2]`` of x and t, ``[n]``."""
    place, time = np.asarray(x, np.float64).T
    return {"u": np.exp(-4 * time) * np.sin(math.pi / 4 + 2 * (place - SPEED * time))}


def reference() -> Reference:
    """The exact solution at 101 x 161 points."""
    return on_grid(solution, (np.linspace(0, LENGTH, 101), np.linspace(0, 1, 161)))


PROBLEM = Problem(
    name="drift_diffusion",
    inputs=("x", "t"),
    outputs=("u",),
    domain=DOMAIN,
    pde=drift_diffusion,
    conditions={
        "periodic": (
            Equation(periodic, DOMAIN.at_boundary, image=other_end),
            Equation(initial, DOMAIN.at_start, group="initial"),
        )
    },
    sampling=Sampling(num_domain=1000, num_boundary=100, num_initial=100),
    network=Network(layers=(2, 64, 64, 64, 1), activation="tanh", scale=(LENGTH, 1.0)),
    schedule=Schedule(iterations={"adam": 500, "lm": 100}, dtype="float64"),
    drawing=Drawing({"u": ("$u$", "")}, ("u",)),
    variants={
        "good": {},
        "bad": {"num_domain": 200, "num_boundary": 20, "num_initial": 20},
    },
    reference=reference,
)
