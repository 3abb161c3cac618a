"""Steady flow around a cylinder in a channel: the benchmark DFG 2D-1 (Schaefer and Turek, 1996)."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pinnfluence.field.field import Field
from pinnfluence.problem.domain import TOLERANCE, Disk, Rectangle
from pinnfluence.problem.equation import Equation
from pinnfluence.problem.forces import (
    NEEDED,
    Cylinder,
    FlowField,
    Forces,
    Integral,
)
from pinnfluence.problem.parts import Drawing, Network, Sampling
from pinnfluence.problem.problem import Problem
from pinnfluence.problem.reference import Reference, load_reference
from pinnfluence.reference.dfg_2d1 import (
    CENTER,
    DFG,
    HEIGHT,
    LENGTH,
    NU,
    RADIUS,
    RHO,
    U_MAX,
    U_MEAN,
)

LAYER = 0.03  # m, about the thickness of the boundary layer at the cylinder


def navier_stokes(f: Field) -> dict[str, Tensor]:
    return {
        "continuity": f.u_x + f.v_y,
        "momentum_x": f.u * f.u_x + f.v * f.u_y + f.p_x / RHO - NU * (f.u_xx + f.u_yy),
        "momentum_y": f.u * f.v_x + f.v * f.v_y + f.p_y / RHO - NU * (f.v_xx + f.v_yy),
    }


def navier_stokes_without_u_u_x(f: Field) -> dict[str, Tensor]:
    return navier_stokes(f) | {
        "momentum_x": f.v * f.u_y + f.p_x / RHO - NU * (f.u_xx + f.u_yy),
    }


def inflow(f: Field) -> dict[str, Tensor]:
    profile = 4 * U_MAX * f.y * (HEIGHT - f.y) / HEIGHT**2
    return {"inflow_u": f.u - profile, "inflow_v": f.v}


def outflow(f: Field) -> dict[str, Tensor]:
    return {"outflow_u": NU * f.u_x - f.p, "outflow_v": NU * f.v_x}


def outflow_published(f: Field) -> dict[str, Tensor]:
    """The published code differentiates u where the equation has v."""
    return {"outflow_u": NU * f.u_x - f.p, "outflow_v": NU * f.u_y}


def no_slip(f: Field) -> dict[str, Tensor]:
    return {"noslip_u": f.u, "noslip_v": f.v}


def at_inflow(x: np.ndarray) -> np.ndarray:
    return np.abs(x[:, 0]) <= TOLERANCE


def at_outflow(x: np.ndarray) -> np.ndarray:
    return np.abs(x[:, 0] - LENGTH) <= TOLERANCE


def at_channel_walls(x: np.ndarray) -> np.ndarray:
    return (np.abs(x[:, 1]) <= TOLERANCE) | (np.abs(x[:, 1] - HEIGHT) <= TOLERANCE)


def at_walls(x: np.ndarray) -> np.ndarray:
    at_cylinder = np.abs(Disk(CENTER, RADIUS).excess(x)) <= TOLERANCE
    return at_channel_walls(x) | at_cylinder


def at_walls_published(x: np.ndarray) -> np.ndarray:
    """The published code asks for ``distance <= radius``, which rounding denies to most points."""
    at_cylinder = np.linalg.norm(x - np.array(CENTER), axis=1) <= RADIUS
    return at_channel_walls(x) | at_cylinder


def no_slip_envelope(x: Tensor) -> Tensor:
    """Factors of u, v and p: the velocities are zero on the walls and on the cylinder."""
    y = x[:, 1]
    distance = torch.hypot(x[:, 0] - CENTER[0], y - CENTER[1]) - RADIUS
    velocity = 4 * y * (HEIGHT - y) / HEIGHT**2 * (1 - torch.exp(-distance / LAYER))
    return torch.stack([velocity, velocity, torch.ones_like(y)], 1)


def speed(f: Field) -> Tensor:
    """|u| in m/s, with gradient zero where u = v = 0."""
    squared = f.u**2 + f.v**2
    moving = squared > 0
    return torch.where(moving, torch.sqrt(torch.where(moving, squared, 1.0)), 0.0)


CYLINDER = Cylinder(CENTER, RADIUS, RHO, NU, U_MEAN)


def forces(field: FlowField) -> Forces:
    """Drag, lift and pressure difference of a flow given by ``field``."""
    return CYLINDER.forces(field)


def integrals() -> dict[str, Integral]:
    """The same numbers as sums over points, by name: for influence."""
    return CYLINDER.integrals()


def reference() -> Reference:
    """What ``python -m pinnfluence.reference.cylinder_fem`` wrote."""
    return load_reference(Path(__file__).parents[1] / "reference" / "cylinder_flow.npz")


# Residuals in units of the cylinder's diameter and the mean velocity.
UNITS = (U_MEAN, U_MEAN, RHO * U_MEAN**2)
NONDIMENSIONAL_WEIGHTS = {
    "continuity": (2 * RADIUS / U_MEAN) ** 2,
    **dict.fromkeys(("momentum_x", "momentum_y"), (2 * RADIUS / U_MEAN**2) ** 2),
    **dict.fromkeys(("inflow_u", "inflow_v", "noslip_u", "noslip_v"), 1 / U_MEAN**2),
    **dict.fromkeys(("outflow_u", "outflow_v"), 1 / UNITS[2] ** 2),
}

# The same, then continuity times 100 and velocities times 10.
BEST_WEIGHTS = {
    "continuity": 25.0,
    **dict.fromkeys(("momentum_x", "momentum_y"), 6.25),
    **dict.fromkeys(("inflow_u", "inflow_v", "noslip_u", "noslip_v"), 250.0),
    **dict.fromkeys(("outflow_u", "outflow_v"), 625.0),
}


def in_units(x: Tensor) -> Tensor:
    """Factors of u, v and p: the network's outputs are in units of the mean velocity."""
    return x.new_tensor(UNITS).expand(len(x), -1)


PROBLEM = Problem(
    name="cylinder_flow",
    inputs=("x", "y"),
    outputs=("u", "v", "p"),
    domain=Rectangle((0.0, 0.0), (LENGTH, HEIGHT)) - Disk(CENTER, RADIUS),
    pde=navier_stokes,
    conditions={
        "corrected": (
            Equation(inflow, at_inflow),
            Equation(outflow, at_outflow),
            Equation(no_slip, at_walls),
        ),
        "published": (
            Equation(inflow, at_inflow),
            Equation(outflow_published, at_outflow),
            Equation(no_slip, at_walls_published),
        ),
    },
    sampling=Sampling(num_domain=7500, num_boundary=2500),
    network=Network((2, 64, 64, 64, 64, 3), "gelu", scale=(LENGTH, HEIGHT)),
    quantities={"speed": speed},
    variants={
        "good": {},
        "broken": {"pde": navier_stokes_without_u_u_x},
        "bad": {"num_domain": 1500, "num_boundary": 500},
        "nondimensional": {
            "layers": (2, 64, 64, 64, 3),
            "activation": "tanh",
            "envelope": in_units,
            "loss_weights": NONDIMENSIONAL_WEIGHTS,
            "dtype": "float64",
        },
        "best": {
            "layers": (2, 32, 32, 32, 32, 3),
            "scale": (0.2, 0.1),
            "num_domain": 4000,
            "num_boundary": 1000,
            "envelope": no_slip_envelope,
            "center": CENTER,
            "loss_weights": BEST_WEIGHTS,
            "iterations": {"adam": 100, "lm": 300},
            "lr": 2e-3,
            "dtype": "float64",
        },
    },
    integrals=integrals,
    measures=lambda fields: vars(forces(lambda x: fields(x, NEEDED))),
    benchmark=vars(DFG),
    reference=reference,
    drawing=Drawing(
        symbols={
            "x": ("$x$", "m"),
            "y": ("$y$", "m"),
            "u": ("$u_1$", "m/s"),
            "v": ("$u_2$", "m/s"),
            "speed": (r"$|\mathbf{u}|$", "m/s"),
            "p": ("$p$", "Pa"),
        },
        signed=("u", "v"),
    ),
)
