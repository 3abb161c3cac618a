"""A small PINN at a minimum of its loss, and its retraining without points: shared by tests."""

from __future__ import annotations

import functools

import numpy as np
import torch

from pinnfluence import MLP, Equation, Pinn
from pinnfluence.loss.loss import Loss
from pinnfluence.training.levenberg_marquardt import LevenbergMarquardt
from pinnfluence.validation.experiments import (
    Experiment,
    Outcome,
    Settings,
)
from pinnfluence.validation.objective import Objective, flat_parameters

PROXIMAL = 1e-3
LAYERS = (2, 6, 5, 1)
WEIGHTS = {"equation": 1.0, "edge": 3.0}


def at_edge(x: np.ndarray) -> np.ndarray:
    return np.abs(x[:, 0]) <= 1e-6


EQUATIONS = (
    Equation(lambda f: {"equation": f.u_t - f.u_xx - torch.sin(3 * f.x) * f.t}),
    Equation(lambda f: {"edge": f.u - f.t}, at_edge),
)

GROUPS = [np.array([i]) for i in (0, 3, 7, 11, 12, 17, 21, 25, 30, 34, 38, 39)]


@functools.cache
def points() -> np.ndarray:
    x = np.random.default_rng(0).random((40, 2)).astype(np.float32)
    x[:12, 0] = 0
    return x


@functools.cache
def pinn() -> Pinn:
    """A small PINN at a minimum of its loss with a proximal term."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MLP(LAYERS, "tanh", (1.0, 1.0)).double()
    begin = Pinn(network, ("x", "t"), ("u",), EQUATIONS, loss_weights=WEIGHTS)
    solver = LevenbergMarquardt(Loss.of_training(begin.at(points())))
    for _ in range(30):
        solver.step()
    experiment = Experiment(begin, points(), points(), Settings(1e-4, tolerance=1e-6))
    assert experiment.run([]).control["converged"]
    return experiment.minimum()


def objective_of(pinn: Pinn, points: np.ndarray, proximal: float = PROXIMAL) -> Objective:
    return Objective(Loss.of_training(pinn.at(points)), proximal, flat_parameters(pinn))


def experiment_of(pinn: Pinn, points: np.ndarray, proximal: float = PROXIMAL) -> Experiment:
    test_x = np.random.default_rng(1).random((30, 2))
    return Experiment(pinn, points, test_x, Settings(proximal, tolerance=1e-7))


@functools.cache
def outcome() -> Outcome:
    return experiment_of(pinn(), points()).run(GROUPS)
