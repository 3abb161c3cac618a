"""Poisson's equation in the unit disk with a source so narrow that random points miss it."""

import math

import numpy as np
import torch
from scipy.special import exp1
from torch import Tensor

from pinnfluence.field.field import Field
from pinnfluence.problem.domain import TOLERANCE, Disk
from pinnfluence.problem.equation import Equation
from pinnfluence.problem.parts import Drawing, Network, Sampling, Schedule
from pinnfluence.problem.problem import Problem
from pinnfluence.problem.reference import Reference

DOMAIN = Disk((0.0, 0.0), 1.0)
WIDTH = 0.02


def poisson(f: Field) -> dict[str, Tensor]:
    source = torch.exp(-(f.x**2 + f.y**2) / (2 * WIDTH**2)) / (2 * math.pi * WIDTH**2)
    return {"poisson": f.u_xx + f.u_yy + source}


def boundary(f: Field) -> dict[str, Tensor]:
    return {"boundary": f.u}


def at_rim(x: np.ndarray) -> np.ndarray:
    return np.abs(DOMAIN.excess(x)) <= TOLERANCE


def solution(x: np.ndarray) -> dict[str, np.ndarray]:
    """The exact u at points ``[n, 2]`` of x and y, ``[n]``.

    ``-2 pi u = ln r + (E1(r^2 / (2 WIDTH^2)) - E1(1 / (2 WIDTH^2))) / 2``, E1 the exponential
    integral: ``-ln(r) / (2 pi)`` outside the source.
    """
    s = np.maximum((np.asarray(x, np.float64) ** 2).sum(1) / (2 * WIDTH**2), 1e-300)
    edge = 1 / (2 * WIDTH**2)
    return {"u": -(np.log(s / edge) + exp1(s) - exp1(edge)) / (4 * math.pi)}


def reference() -> Reference:
    """The exact solution at 121 x 96 points of a polar grid, closer to each other at the source."""
    n_angles = 96
    edges = np.sinh(5 * np.linspace(0, 1, 122)) / np.sinh(5)
    radius = np.append(0, (edges[2:] + edges[1:-1]) / 2)
    angle = 2 * np.pi * np.arange(n_angles) / n_angles
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    points = np.concatenate([np.zeros((1, 2)), *(r * ring for r in radius[1:])])
    rings = np.pi * np.diff(edges**2)
    area = np.concatenate([rings[:1], np.repeat(rings[1:] / n_angles, n_angles)])
    stored = points.astype(np.float32)
    return Reference(
        stored, {"u": solution(stored)["u"].astype(np.float32)}, area.astype(np.float32)
    )


PROBLEM = Problem(
    name="poisson_disk",
    inputs=("x", "y"),
    outputs=("u",),
    domain=DOMAIN,
    pde=poisson,
    conditions={"dirichlet": (Equation(boundary, at_rim),)},
    sampling=Sampling(num_domain=2500, num_boundary=500, anchors=((0.0, 0.0),)),
    network=Network(layers=(2, 32, 32, 32, 1), activation="tanh", scale=(1.0, 1.0)),
    schedule=Schedule(iterations={"adam": 500, "lm": 100}, dtype="float64"),
    drawing=Drawing({"u": ("$u$", "")}),
    variants={"good": {}, "bad": {"num_domain": 100, "num_boundary": 20}},
    reference=reference,
)
