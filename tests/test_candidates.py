"""The influence of adding points, against refits of a network that is linear in its parameters."""

import numpy as np
import pytest
import torch
from torch import nn

from pinnfluence import Equation, Influence, InputError, Pinn, torch_model
from pinnfluence.influence import candidates as candidates_module
from pinnfluence.influence.target import Target
from pinnfluence.loss.loss import Loss

N = 6
WEIGHTS = {"poisson": 2.0, "left": 3.0}
DAMPING = 1e-3


class Powers(nn.Module):
    """``u = sum_n theta_n x^n``, linear in its parameters."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, x):
        powers = [torch.ones_like(x)]
        for _ in range(N - 1):
            powers.append(powers[-1] * x)
        return (torch.cat(powers, 1) * self.theta).sum(1, keepdim=True)


EQUATIONS = (
    Equation(lambda f: {"poisson": f.u_xx - f.u - torch.exp(3 * f.x)}),
    Equation(lambda f: {"left": f.u - 0.5 - f.u_x}, lambda x: x[:, 0] < 1e-6),
)


def system(x, n_poisson, n_left):
    """By hand: rows ``[n, N]`` and right sides of the scaled residuals ``row . theta - right``."""
    powers = np.arange(N)
    rows, rights = [], []
    for value in np.asarray(x, float)[:, 0]:
        second = np.where(powers > 1, powers * (powers - 1) * value ** np.maximum(powers - 2, 0), 0)
        scale = np.sqrt(2 * WEIGHTS["poisson"] / n_poisson)
        rows.append(scale * (second - value**powers))
        rights.append(scale * np.exp(3 * value))
        if value < 1e-6:
            scale = np.sqrt(2 * WEIGHTS["left"] / n_left)
            rows.append(scale * (np.eye(N)[0] - np.eye(N)[1]))
            rights.append(scale * 0.5)
    return np.array(rows), np.array(rights)


def points(n, seed):
    x = np.random.default_rng(seed).random((n, 1)).astype(np.float32)
    x[: n // 5] = 0
    return x


TRAIN = points(15, 0)
CANDIDATES = points(20, 1)
SIZES = (len(TRAIN), len(TRAIN) // 5)


def refit(added, theta=None):
    """Parameters of least squares with the points that are added; held near theta, if it is given.

    The damping is that of the influence, ``|theta - theta_0|^2 DAMPING / 2``.
    """
    A, b = system(np.concatenate([TRAIN, added]), *SIZES)
    hold = 0 if theta is None else DAMPING
    start = np.zeros(N) if theta is None else theta
    step = np.linalg.lstsq(
        np.vstack([A, np.sqrt(hold) * np.eye(N)]),
        np.concatenate([b - A @ start, np.zeros(N)]),
        rcond=None,
    )[0]
    return start + step


THETA = refit(TRAIN[:0])


def pinn(theta=THETA):
    return Pinn(Powers(theta), ("x",), ("u",), EQUATIONS, loss_weights=WEIGHTS)


def u(theta, x):
    return (np.asarray(x, float) ** np.arange(N)) @ theta


@pytest.fixture(scope="module")
def influence():
    return Influence(pinn(), TRAIN, "gauss-newton", damping=DAMPING)


AT = np.array([[0.1], [0.5], [0.9]])
TRUTH = np.array([0.7, 0.2, -0.4])


def test_numbers_change_as_a_refit_with_the_point_changes_them(influence):
    found = influence.candidates(CANDIDATES, "u", AT)
    expected = [u(refit(z[None], THETA), AT) - u(THETA, AT) for z in CANDIDATES]
    np.testing.assert_allclose(found.changes, np.stack(expected, 1), rtol=1e-6, atol=1e-12)
    parts = found.by_term()
    assert list(parts) == ["poisson", "left"]
    np.testing.assert_allclose(sum(parts.values()), found.changes, rtol=1e-9)
    assert (parts["left"][:, CANDIDATES[:, 0] > 0] == 0).all()
    assert abs(parts["left"][:, CANDIDATES[:, 0] == 0]).min() > 0


@pytest.mark.parametrize("quantity", [0, "u", lambda f: f.u])
def test_an_integral_changes_as_a_refit_changes_it(influence, quantity):
    weights = np.array([0.2, -1.0, 3.0])
    found = influence.candidates(CANDIDATES, quantity, AT, weights).changes
    expected = [weights @ (u(refit(z[None], THETA), AT) - u(THETA, AT)) for z in CANDIDATES]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def squared_error(influence):
    gradients = AT ** np.arange(N)
    return influence.candidates(CANDIDATES, Target(gradients, u(THETA, AT) - TRUTH))


def error_of(theta):
    return float(((u(theta, AT) - TRUTH) ** 2).sum())


def test_squares_change_by_the_whole_step(influence):
    found = squared_error(influence)
    expected = [error_of(refit(z[None], THETA)) - error_of(THETA) for z in CANDIDATES]
    np.testing.assert_allclose(found.changes, expected, rtol=1e-6)
    np.testing.assert_allclose(sum(found.by_term().values()), found.changes, rtol=1e-9)


def test_a_loss_changes_as_a_refit_changes_it(influence):
    volume = points(40, 7)
    A, b = system(volume, 40, 8)

    def loss(theta):
        return 0.5 * ((A @ theta - b) ** 2).sum()

    found = influence.candidates(CANDIDATES, Loss.of_training(influence.pinn.at(volume))).changes
    expected = [loss(refit(z[None], THETA)) - loss(THETA) for z in CANDIDATES]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    by_name = influence.candidates(CANDIDATES, "all", volume).changes
    plain = Loss.uniform(influence.pinn.at(volume))
    np.testing.assert_allclose(by_name, influence.candidates(CANDIDATES, plain).changes)
    assert not np.allclose(by_name, influence.candidates(CANDIDATES, "left", volume).changes)


def by_brute_force(n):
    """Greedy choice by refits with every candidate in turn, and the squared errors on the way."""
    chosen: list[int] = []
    errors = [error_of(THETA)]
    for _ in range(n):
        trials = {
            i: error_of(refit(CANDIDATES[[*chosen, i]], THETA))
            for i in range(len(CANDIDATES))
            if i not in chosen
        }
        best = min(trials, key=lambda i: trials[i])
        if trials[best] >= errors[-1]:
            break
        chosen.append(best)
        errors.append(trials[best])
    return chosen, errors


def test_a_set_is_chosen_as_by_refits(influence):
    expected, errors = by_brute_force(6)
    found = squared_error(influence).select(6)
    np.testing.assert_allclose(found.squares, errors, rtol=1e-6)
    assert [CANDIDATES[i] for i in found.points] == [CANDIDATES[i] for i in expected]
    assert len(set(found.points.tolist())) == len(found.points)


def test_a_chosen_point_takes_its_curvature_and_residual_along(influence):
    """What the others then answer, by hand: with the point's rows in the matrix of the training."""
    response = squared_error(influence)._response
    A, _ = system(TRAIN, *SIZES)
    C, right = system(CANDIDATES, *SIZES)
    for chosen in (1, 7):  # with two residuals and with one
        rows = np.flatnonzero(response.point == chosen)
        G = A.T @ A + DAMPING * np.eye(N)
        columns = C @ np.linalg.solve(G, C[rows].T)
        left, _, _ = response.with_point(chosen, columns)
        inverse = np.linalg.inv(G + C[rows].T @ C[rows])
        K = C @ inverse @ C.T
        for point in range(len(CANDIDATES)):
            own = np.flatnonzero(response.point == point)
            block = left.leverages.matrices[point, : len(own), : len(own)]
            np.testing.assert_allclose(block, K[np.ix_(own, own)], rtol=1e-4, atol=1e-9)
        theta = refit(CANDIDATES[[chosen]], THETA)
        np.testing.assert_allclose(left.s, C @ theta - right, rtol=1e-5, atol=1e-9)
        E = AT ** np.arange(N)
        np.testing.assert_allclose(left.products, E @ inverse @ C.T, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("n", [4, 20])
def test_all_candidates_together_do_what_a_refit_with_all_does(influence, n):
    """Of numbers without values: those of all, whether they are fewer than parameters or more."""
    some = CANDIDATES[-n:]
    found = influence.candidates(some, "u", AT).select(n)
    moved = u(refit(some, THETA), AT) - u(THETA, AT)
    assert found.squares[0] == pytest.approx(moved @ moved, rel=1e-6)
    reached = u(refit(some[found.points], THETA), AT) - u(THETA, AT)
    left = ((moved - reached) ** 2).sum()
    assert found.squares[-1] == pytest.approx(left, rel=1e-4, abs=1e-12)
    assert found.squares[-1] < 1e-3 * found.squares[0]


def test_a_cluster_is_not_chosen_twice(influence):
    """Five points side by side do most, each alone; the next to join is none of them."""
    cluster = 0.99 + 1e-4 * np.arange(5)[:, None]
    x = np.concatenate([cluster, [[0.0], [0.2], [0.5]]]).astype(np.float32)
    E = np.linspace(0, 1, 30)[:, None] ** np.arange(N)
    wanted = refit(x[[0, 6]], THETA) - THETA
    found = influence.candidates(x, Target(E, -E @ wanted))
    assert set(np.argsort(found.changes)[:5].tolist()) == set(range(5))
    chosen = found.select(2)
    assert chosen.points[0] < 5
    assert chosen.points[1] == 6
    assert chosen.squares[2] < 1e-3 * chosen.squares[0]


def test_results_do_not_depend_on_blocks_or_order(influence, monkeypatch):
    expected = squared_error(influence)
    monkeypatch.setattr(candidates_module, "BLOCK", 3)
    order = np.random.default_rng(0).permutation(len(CANDIDATES))
    other = influence.candidates(CANDIDATES[order], expected.target)
    np.testing.assert_allclose(other.changes, expected.changes[order], rtol=1e-9)
    for name, part in other.by_term().items():
        np.testing.assert_allclose(part, expected.by_term()[name][order], rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(other.select(4).squares, expected.select(4).squares, rtol=1e-9)


def test_few_training_points_are_inverted_in_their_residuals():
    few = TRAIN[-4:]
    influence = Influence(pinn(), few, "gauss-newton", damping=DAMPING)
    assert influence.fit().inverse.has_rows
    found = influence.candidates(CANDIDATES, "u", AT).changes
    A, _ = system(few, 4, 1)
    G = A.T @ A + DAMPING * np.eye(N)
    E = AT ** np.arange(N)
    for i, z in enumerate(CANDIDATES):
        U, right = system(z[None], 4, 1)
        step = -np.linalg.solve(G + U.T @ U, U.T @ (U @ THETA - right))
        np.testing.assert_allclose(found[:, i], E @ step, rtol=1e-5, atol=1e-10)


def test_a_model_in_plain_torch_has_candidates_of_its_own():
    network = Powers(THETA)

    def left(network, x):
        x = x.requires_grad_()
        value = network(x)
        (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        return (value - 0.5 - slope)[:, 0]

    def poisson(network, x):
        x = x.requires_grad_()
        (slope,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
        return (second - network(x) - torch.exp(3 * x))[:, 0]

    def model(x):
        x = torch.as_tensor(x, dtype=torch.float64)
        at_left = x[x[:, 0] == 0]
        terms = {"poisson": (x, poisson, 2.0), "left": (at_left, left, 3.0)}
        return torch_model(network, terms, dtype=torch.float64)

    whole = Influence(model(TRAIN), recipe="gauss-newton", damping=DAMPING)
    number = lambda network, x: network(x)[:, 0]  # noqa: E731
    found = whole.candidates(model(CANDIDATES[[0, -1, -2]]), number, AT)
    parts = found.by_term()
    assert found.changes.shape == (3, 4)
    plain = Influence(pinn(), TRAIN, "gauss-newton", damping=DAMPING)
    expected = plain.candidates(CANDIDATES[[-1, -2]], "u", AT).changes
    np.testing.assert_allclose(parts["poisson"][:, 1:3], expected, rtol=1e-6)


def test_what_is_refused(influence):
    with pytest.raises(InputError, match="need curvature gauss-newton at rank full, found paper"):
        Influence(pinn(), TRAIN, "paper").candidates(CANDIDATES, "u", AT)
    with pytest.raises(InputError, match="give at="):
        influence.candidates(CANDIDATES, "u")
    with pytest.raises(InputError, match="no quantity 'v'"):
        influence.candidates(CANDIDATES, "v", AT)
    with pytest.raises(InputError, match="points and weights with a quantity only"):
        influence.candidates(CANDIDATES, Target(np.ones((1, N))), AT)
    with pytest.raises(InputError, match="of another network"):
        influence.candidates(CANDIDATES, Target(np.ones((1, N + 1))))
    with pytest.raises(InputError, match="give a Loss"):
        influence.candidates(CANDIDATES, "all", AT, np.ones(3))
    with pytest.raises(InputError, match=r"shape \[n, 1\]"):
        influence.candidates(np.ones((3, 2)), "u", AT)
    with pytest.raises(InputError, match="from 1 to 20 candidates, found 21"):
        squared_error(influence).select(21)
    with pytest.raises(InputError, match="candidate points for the loss terms"):
        influence.candidates(Pinn(Powers(THETA), ("x",), ("u",), EQUATIONS[:1]), "u", AT)
    with pytest.raises(InputError, match="a Pinn with candidate points"):
        influence.candidates(pinn(), "u", AT)
    only_left = Pinn(Powers(THETA), ("x",), ("u",), (EQUATIONS[1],))
    nowhere = Influence(only_left, TRAIN, "gauss-newton", damping=DAMPING)
    with pytest.raises(InputError, match="on which a loss term acts, found none"):
        nowhere.candidates(CANDIDATES[-3:], "u", AT)
