"""Influence against exact refits without a point, for networks linear in their parameters."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from brute_force import close, largest_error
from full_rank_cases import recipe

from pinnfluence import Equation, Influence, Pinn, Recipe
from pinnfluence.field.network import MLP


def target(f):
    return torch.sin(3 * f.x) + f.y**2


@pytest.fixture(scope="module")
def least_squares():
    """A network without hidden layer, u = a x + b y + c, at the minimum of sum (u - target)^2."""
    x = np.random.default_rng(6).random((30, 2)).astype(np.float32)
    A = np.column_stack([x.astype(np.float64), np.ones(30)])
    b = np.sin(3 * A[:, 0]) + A[:, 1] ** 2
    theta = np.linalg.lstsq(A, b)[0]
    network = MLP((2, 1), "tanh").double()
    weights = {"weight": torch.as_tensor(theta[None, :2]), "bias": torch.as_tensor(theta[2:])}
    network.load_state_dict({f"linears.0.{name}": value for name, value in weights.items()})
    equation = Equation(lambda f: {"fit": f.u - target(f)})
    return Pinn(network, ("x", "y"), ("u",), (equation,)), x, A, b, theta


def test_leave_one_out(least_squares):
    """Refitting without point i changes u by exactly Inf / (1 - h_i), h_i its leverage.

    Positive means that removing the point raises the quantity.
    """
    pinn, x, A, b, theta = least_squares
    test_x = np.random.default_rng(7).random((9, 2)).astype(np.float32)
    B = np.column_stack([test_x.astype(np.float64), np.ones(9)])
    scores = Influence(pinn, x, Recipe(rank=3, damping=0, threshold=0)).influence(test_x)
    refits = np.stack([np.linalg.lstsq(np.delete(A, i, 0), np.delete(b, i))[0] for i in range(30)])
    change = B @ (refits - theta).T
    leverage = np.einsum("ip,pq,iq->i", A, np.linalg.inv(A.T @ A), A)
    found = np.asarray(scores["u"])
    close(found / (1 - leverage), change)
    assert (np.sign(found) == np.sign(change)).mean() == 1
    assert np.corrcoef(found.ravel(), change.ravel())[0, 1] > 0.99


def test_leave_one_out_of_a_loss(least_squares):
    """A removed point is fitted worse: its own loss rises."""
    pinn, x, A, b, theta = least_squares
    scores = Influence(pinn, x, Recipe(rank=3, damping=0, threshold=0)).influence()
    loss = (A @ theta - b) ** 2
    rise = []
    for i in range(30):
        refit = np.linalg.lstsq(np.delete(A, i, 0), np.delete(b, i))[0]
        rise.append((A[i] @ refit - b[i]) ** 2 - loss[i])
    found = np.diag(np.asarray(scores["all"]))
    assert (found > 0).all()
    assert (np.array(rise) > 0).all()
    leverage = np.einsum("ip,pq,iq->i", A, np.linalg.inv(A.T @ A), A)
    close(found, 2 * leverage * loss)
    assert abs(found / rise - 1).max() < 0.3


def test_stationarity_of_a_minimum(least_squares):
    pinn, x, A, b, theta = least_squares
    facts = Influence(pinn, x, Recipe(rank=3)).influence(x[:1]).metadata["stationarity"]
    residuals = A @ theta - b
    norms = np.linalg.norm(2 * residuals[:, None] * A, axis=1)
    values = np.linalg.eigvalsh(2 * A.T @ A)
    assert facts["losses"] == {"fit": pytest.approx((residuals**2).mean())}
    assert facts["median_point_gradient_norm"] == pytest.approx(np.sort(norms)[14])
    assert facts["gradient_norm"] < 1e-12
    assert facts["ratio"] < 1e-10
    assert facts["largest_eigenvalue"] == pytest.approx(values[-1], rel=1e-6)
    assert facts["most_negative_eigenvalue"] == pytest.approx(values[0], rel=1e-6)


def test_problem_without_conditions(least_squares):
    pinn, x, *_ = least_squares
    scores = Influence(pinn, x, Recipe(rank=3)).influence(x[:4])
    assert scores.groups == {"pde": ["fit"], "bcs": [], "all": ["fit"]}
    assert (np.asarray(scores["bcs"]) == 0).all()
    assert scores.acting_rows("bcs").tolist() == []
    close(scores["pde"], scores["all"])


@pytest.mark.parametrize("curvature", ["gauss-newton", "hessian"])
@pytest.mark.parametrize("weighting", ["uniform", "training"])
def test_leave_one_out_of_ridge_regression(curvature, weighting):
    """Dropping point i changes u by exactly Inf / (1 - h_i).

    With leverage by exactly Inf.
    """
    rng = np.random.default_rng(6)
    x, test_x = (rng.random((n, 2)).astype(np.float32) for n in (25, 9))
    A, B = (np.column_stack([p.astype(np.float64), np.ones(len(p))]) for p in (x, test_x))
    b = np.sin(3 * A[:, 0]) + A[:, 1] ** 2
    c = 1.7
    w = 1.0 if weighting == "uniform" else c / len(x)
    theta = np.linalg.lstsq(A, b)[0]
    network = MLP((2, 1), "tanh").double()
    weights = {"weight": torch.as_tensor(theta[None, :2]), "bias": torch.as_tensor(theta[2:])}
    network.load_state_dict({f"linears.0.{name}": value for name, value in weights.items()})
    equation = Equation(lambda f: {"fit": f.u - torch.sin(3 * f.x) - f.y**2})
    pinn = Pinn(network, ("x", "y"), ("u",), (equation,), loss_weights={"fit": c})
    damping = 0.1 * w
    chosen = recipe(curvature=curvature, weighting=weighting, damping=damping)
    influence = Influence(pinn, x, chosen)
    M = 2 * w * A.T @ A + damping * np.eye(3)
    change, leverage = [], []
    for i in range(len(x)):
        without = np.delete(A, i, 0)
        matrix = 2 * w * without.T @ without + damping * np.eye(3)
        # the minimum of the remaining loss and of damping / 2 |theta - theta-hat|^2
        gradient = 2 * w * without.T @ (without @ theta - np.delete(b, i))
        change.append(-B @ np.linalg.solve(matrix, gradient))
        leverage.append(2 * w * A[i] @ np.linalg.solve(M, A[i]))
    expected = np.stack(change, 1) * (1 - np.array(leverage))
    assert largest_error(influence.scores_by_quantity(test_x)["u"], expected) < 1e-6
    assert largest_error(influence.influence(test_x)["u"], expected) < 1e-5
    if curvature == "gauss-newton":
        exactly = Influence(pinn, x, replace(chosen, leverage=True))
        assert largest_error(exactly.scores_by_quantity(test_x)["u"], np.stack(change, 1)) < 1e-6
        assert largest_error(exactly.influence(test_x)["u"], np.stack(change, 1)) < 1e-5
        known = exactly.influence(test_x).metadata["leverage"]
        assert known["largest"] == pytest.approx(max(leverage))
        assert known["median"] == pytest.approx(np.median(leverage))
