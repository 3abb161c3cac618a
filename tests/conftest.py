"""Small models and points of the flow problem that several tests share."""

import os
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = "1"  # one thread a test process, and a process a core

import numpy as np
import pytest
import torch

from pinnfluence import MLP, Pinn
from pinnfluence.problems.cylinder_flow import PROBLEM


@pytest.fixture(scope="session")
def flow_pinn() -> Callable[..., Pinn]:
    """Makes the flow problem's Pinn with a small random network."""

    def make(
        layers: tuple[int, ...] = (2, 8, 8, 3),
        activation: str = "gelu",
        variant: str = "good",
        conditions: str = "corrected",
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
    ) -> Pinn:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = MLP(layers, activation, PROBLEM.scale).to(dtype)
        equations = PROBLEM.variant(variant).equations(conditions)
        return Pinn(network, PROBLEM.inputs, PROBLEM.outputs, equations, PROBLEM.quantities)

    return make


@pytest.fixture(scope="session")
def flow_points() -> Callable[[int, int], np.ndarray]:
    """Makes float32 points of the channel, shuffled: inside, on every boundary, in two corners."""

    def make(n_inside: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        inside = rng.random((n_inside, 2)) * [1.9, 0.41] + [0.3, 0]
        angle = rng.random(8) * 2 * np.pi
        y, x = rng.random((2, 5)) * [[0.41], [2.2]]
        boundary = [
            np.array([[0.0, 0.0], [2.2, 0.41]]),
            np.stack([0 * y, y], 1),
            np.stack([0 * y + 2.2, y[::-1]], 1),
            np.stack([x, 0 * x], 1),
            np.stack([x[::-1], 0 * x + 0.41], 1),
            0.2 + 0.05 * np.stack([np.cos(angle), np.sin(angle)], 1),
        ]
        points = np.concatenate([inside, *boundary])
        return points[rng.permutation(len(points))].astype(np.float32)

    return make
