"""Levenberg-Marquardt against linear least squares and its own interrupted runs."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import SMALL, TRAIN, assert_as_undisturbed, history_of, kill, run_well

from pinnfluence import MLP, Equation, Pinn
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation
from pinnfluence.training.levenberg_marquardt import LevenbergMarquardt

RNG = np.random.default_rng(3)
POINTS = np.linspace(-1, 1, 25, dtype=np.float32)[:, None]
AT_LEFT = Equation(lambda f: {"left": f.u - 0.3}, lambda x: x[:, 0] <= -1)


def pinn(layers: tuple[int, ...], seed: int = 0) -> Pinn:
    """u' = cos 3x with weighted data u = 0.3 at the left end."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = MLP(layers, "tanh").double()
    ode = Equation(lambda f: {"ode": f.u_x - torch.cos(3 * f.x)})
    return Pinn(network, ("x",), ("u",), (ode, AT_LEFT), loss_weights={"left": 4.0})


def scaled_residuals(collocation: Collocation, theta: np.ndarray) -> np.ndarray:
    """Residuals whose squares add up to the loss, by autograd and not by streams."""
    network = copy.deepcopy(collocation.pinn.network)
    torch.nn.utils.vector_to_parameters(torch.as_tensor(theta), network.parameters())
    x = torch.as_tensor(collocation.x).double().requires_grad_()
    u = network(x)
    u_x = torch.autograd.grad(u.sum(), x)[0]
    ode = (u_x - torch.cos(3 * x)).detach().numpy()[:, 0]
    left = u.detach().numpy()[collocation.x[:, 0] <= -1, 0] - 0.3
    return np.concatenate([ode / len(ode) ** 0.5, left * (4 / len(left)) ** 0.5])


def theta_of(collocation: Collocation) -> np.ndarray:
    parameters = collocation.pinn.network.parameters()
    return torch.cat([p.detach().flatten() for p in parameters]).numpy()


def loss_of(collocation: Collocation) -> float:
    return float(np.square(scaled_residuals(collocation, theta_of(collocation))).sum())


def test_one_step_solves_a_linear_problem() -> None:
    linear = pinn((1, 1)).at(POINTS)
    at_zero = scaled_residuals(linear, np.zeros(2))
    columns = [scaled_residuals(linear, unit) - at_zero for unit in np.eye(2)]
    solution = np.linalg.lstsq(np.stack(columns, 1), -at_zero, rcond=None)[0]
    assert LevenbergMarquardt(Loss.of_training(linear), damping=1e-12).step()
    np.testing.assert_allclose(theta_of(linear), solution, rtol=1e-9)


def test_every_step_lowers_the_loss_and_the_end_is_a_minimum() -> None:
    collocation = pinn((1, 6, 1)).at(POINTS)
    optimizer = LevenbergMarquardt(Loss.of_training(collocation))
    losses = [loss_of(collocation)]
    while len(losses) < 100 and optimizer.step():
        losses.append(loss_of(collocation))
    assert (np.diff(losses) < 0).all()
    assert losses[-1] < 1e-6 < 0.1 < losses[0]


def test_at_a_minimum_nothing_moves() -> None:
    collocation = pinn((1, 1)).at(POINTS)
    LevenbergMarquardt(Loss.of_training(collocation), damping=1e-14).step()
    optimizer = LevenbergMarquardt(Loss.of_training(collocation), damping=1e-14)
    steps = [optimizer.step() for _ in range(5)]
    before = theta_of(collocation)
    assert not steps[-1]
    assert not optimizer.step()
    np.testing.assert_array_equal(theta_of(collocation), before)


def test_going_on_from_a_state_gives_the_same_bits() -> None:
    whole, first = (pinn((1, 5, 1)).at(POINTS) for _ in range(2))
    optimizer = LevenbergMarquardt(Loss.of_training(whole))
    for _ in range(6):
        optimizer.step()
    half = LevenbergMarquardt(Loss.of_training(first))
    for _ in range(3):
        half.step()
    moved = copy.deepcopy(first.pinn.network)
    second = replace(first.pinn, network=moved).at(POINTS)
    rest = LevenbergMarquardt(Loss.of_training(second))
    rest.load_state_dict(half.state_dict())
    for _ in range(3):
        rest.step()
    np.testing.assert_array_equal(theta_of(second), theta_of(whole))


STEPS = ("--n_iterations", 20, "--n_iterations_lbfgs", 0, "--n_iterations_lm", 40)
FLAGS = (*SMALL, *STEPS, "--dtype", "float64", "--save_seconds", 0)


@pytest.mark.parametrize(
    "n_kills", [2, pytest.param(20, marks=(pytest.mark.slow, pytest.mark.timeout(1800)))]
)
def test_kills_do_not_change_a_bit(tmp_path: Path, n_kills: int) -> None:
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "run"
    run_well(TRAIN, *FLAGS, "--save_path", undisturbed)
    assert (undisturbed / "lm-60.pt").is_file()
    _, rows = history_of(undisturbed)
    assert rows[-1, 0] == 60
    assert np.isfinite(rows[-1]).all()
    seconds = rows[-1, -1] - rows[rows[:, 0] == 20, -1][0]
    kill(folder, n_kills, FLAGS, folder / "adam-20.pt", 0.8 * float(seconds) / n_kills, "")
    run_well(TRAIN, *FLAGS, "--save_path", folder)
    assert_as_undisturbed(folder, undisturbed)
