"""Damped inverses, by every method, against ``numpy.linalg.solve`` with the dense matrix."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from brute_force import TERMS

from pinnfluence import GAUSS_NEWTON, InputError, Recipe
from pinnfluence.curvature import inverse as methods
from pinnfluence.curvature.fit import invert
from pinnfluence.curvature.inverse import METHODS, InverseMethod, method_of
from pinnfluence.curvature.inverse.base import UnitCosts
from pinnfluence.curvature.inverse.dense import DenseInverse
from pinnfluence.curvature.inverse.eigenpairs import LowRank
from pinnfluence.curvature.inverse.residual_space import ResidualSpaceInverse
from pinnfluence.curvature.lanczos import Eigenpairs
from pinnfluence.curvature.operators import OPERATORS, Curvature, GaussNewton, Hessian
from pinnfluence.curvature.recipe import recipe_of
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor
from pinnfluence.storage.stage_store import StageStore

WEIGHTS = dict(zip(TERMS, np.linspace(0.3, 4.0, len(TERMS)), strict=True))


class Given(Hessian):
    """A given symmetric matrix in the place of a Hessian."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix, self.n_params, self.executor = matrix, len(matrix), Executor()
        self.n_products = 0

    def dense(self, store=None) -> np.ndarray:
        return self.matrix


def with_eigenvalues(values: np.ndarray) -> np.ndarray:
    rotation = np.linalg.qr(np.random.default_rng(4).standard_normal((len(values),) * 2))[0]
    return rotation * values @ rotation.T


def fitted(name: str, curvature: Curvature, recipe: Recipe, **store) -> InverseMethod:
    method = METHODS[name](curvature, rank=recipe.n_pairs, threshold=recipe.threshold, **store)
    method.fit()
    return method


def recipe_for(name: str, curvature: str, rank: int) -> Recipe:
    """The recipe of a method, of all eigenpairs where it keeps some."""
    kept = rank if METHODS[name].takes_rank else "full"
    changes = {"curvature": curvature, "rank": kept, "inverse": name, "threshold": 0.0}
    return recipe_of("gauss-newton", **changes)


@pytest.fixture(scope="module", params=["few points", "many points"])
def loss(request, flow_pinn, flow_points) -> Loss:
    """Fewer residuals than parameters, and more."""
    few = request.param == "few points"
    found = Loss(
        flow_pinn((2, 4, 4, 3)).at(flow_points(1)[::4] if few else flow_points(30)), WEIGHTS
    )
    assert (found.collocation.n_residuals < found.pinn.n_params) == few
    return found


CASES = [
    (name, kind)
    for name, method in METHODS.items()
    for kind, operator in OPERATORS.items()
    if operator.has_rows or not method.needs_rows
]


@pytest.mark.parametrize(("name", "kind"), CASES)
@pytest.mark.parametrize("damping", [1.0, 50.0])
def test_times_the_damped_matrix_it_is_the_identity(loss, name, kind, damping):
    curvature = OPERATORS[kind](loss, Executor(1000))
    M, eye = curvature.dense(), np.eye(curvature.n_params)
    values = np.linalg.eigvalsh(M)
    damping -= 2 * min(0.0, values[0]) * (not curvature.semidefinite)
    method = fitted(name, curvature, recipe_for(name, kind, curvature.n_params))
    found = method.at(damping)
    assert found.damping == damping
    assert method.largest == pytest.approx(values[-1], rel=1e-4)
    lowest = 0.0 if curvature.semidefinite and not method.takes_rank else values[0]
    assert method.lowest == pytest.approx(lowest, rel=1e-4, abs=1e-9 * values[-1])
    np.testing.assert_allclose(found.solve(M + damping * eye), eye, rtol=0, atol=1e-8)
    B = np.random.default_rng(1).standard_normal((len(M), 4))
    expected = np.linalg.solve(M + damping * eye, B)
    np.testing.assert_allclose(found.solve(B), expected, rtol=0, atol=1e-9 * abs(expected).max())
    if found.root is not None:
        np.testing.assert_allclose(found.root @ found.root.T @ B, found.solve(B), atol=1e-9)
        assert len(found.eigenvalues) == found.root.shape[1]
    assert method.metadata().keys() - {"randomised"} == {"n_products"}


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_one_fit_serves_all_dampings(loss, name, kind):
    curvature = OPERATORS[kind](loss, Executor(1000))
    M = curvature.dense()
    method = fitted(name, curvature, recipe_for(name, kind, curvature.n_params))
    lowest = min(0.0, float(np.linalg.eigvalsh(M)[0]))
    for damping in (1.0, 30.0, 1.0):
        shifted = M + (damping - 2 * lowest) * np.eye(len(M))
        found = method.at(damping - 2 * lowest).solve(np.eye(len(M)))
        np.testing.assert_allclose(found @ shifted, np.eye(len(M)), rtol=0, atol=1e-8)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_what_is_kept_is_the_same_again(loss, name, kind, tmp_path):
    curvature = OPERATORS[kind](loss, Executor(1000))
    recipe, b = recipe_for(name, kind, 5), np.ones((curvature.n_params, 1))
    damping = 1e4
    store = StageStore(tmp_path, "0" * 64)
    before = fitted(name, curvature, recipe, store=store).at(damping).solve(b)
    again = OPERATORS[kind](loss, Executor(1000))
    kept = METHODS[name].kept(again, StageStore(tmp_path, "0" * 64))
    assert set(kept.values()) == ({1.0} if list(tmp_path.iterdir()) else {0.0})
    method = fitted(name, again, recipe, store=StageStore(tmp_path, "0" * 64))
    np.testing.assert_array_equal(method.at(damping).solve(b), before)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_costs(loss, name, kind):
    curvature = OPERATORS[kind](loss, Executor(1000))
    unit = UnitCosts(1.0, 1.0, 1e-9, 9, 10)
    cost = METHODS[name].cost(curvature, recipe_for(name, kind, 5).n_pairs, unit)
    assert all(seconds > 0 for seconds in cost.seconds.values())
    assert cost.memory_bytes > 0
    assert cost.kept_bytes >= 0
    kept = METHODS[name].kept(curvature, StageStore(None))
    assert kept.keys() <= cost.seconds.keys()


def test_names_are_those_of_the_files():
    stems = {p.stem.replace("_", "-") for p in Path(str(methods.__file__)).parent.glob("[!_]*.py")}
    assert set(METHODS) == stems - {"base", "cholesky"}
    assert set(METHODS) >= {"dense", "eigenpairs", "residual-space"}


def test_the_smaller_space_is_taken(loss):
    few = loss.collocation.n_residuals < loss.pinn.n_params
    gauss_newton, hessian = (kind(loss, Executor(1000)) for kind in (GaussNewton, Hessian))
    assert method_of("full", gauss_newton) is METHODS["residual-space" if few else "dense"]
    assert method_of("full", hessian) is METHODS["dense"]
    for name in METHODS:
        assert method_of(name, gauss_newton) is METHODS[name]
    given = invert(replace(GAUSS_NEWTON, damping=0.1), loss, Executor(9))
    assert isinstance(given.inverse, ResidualSpaceInverse if few else DenseInverse)
    assert given.inverse.has_rows == few
    assert given.chosen is None
    assert given.metadata()["damping"] == 0.1


def test_low_rank():
    matrix = with_eigenvalues(np.arange(1.0, 21))
    values, V = np.linalg.eigh(matrix + 0.5 * np.eye(20))
    pairs = Eigenpairs(values[::-1][:6], V[:, ::-1][:, :6], 0.0, 0)
    B = np.random.default_rng(1).standard_normal((20, 3))
    found, V = LowRank(pairs, 0.5), V[:, -6:]
    np.testing.assert_allclose(found.solve(B), V / values[-6:] @ V.T @ B, atol=1e-12)
    assert found.damping == 0.5


def test_the_threshold_is_of_the_damped_eigenvalues():
    matrix = with_eigenvalues(np.array([0.25, 1.0, 2.0, 4.0]))
    recipe = Recipe(rank=4, threshold=1.2)
    method = fitted("eigenpairs", Given(matrix), recipe)
    np.testing.assert_allclose(method.at(0.5).eigenvalues, [4.5, 2.5, 1.5])
    np.testing.assert_allclose(method.at(0.0).eigenvalues, [4, 2])
    with pytest.raises(InputError, match=r"no eigenvalue of the curvature exceeds 1\.2"):
        fitted("eigenpairs", Given(matrix / 10), recipe).at(0.0)


@pytest.mark.parametrize("kind", [name for name, k in OPERATORS.items() if k.has_loss_rows])
def test_rows_are_those_of_the_scaled_residuals(loss, kind):
    """A^T s is the gradient of the loss, and the push-through products are those with A."""
    curvature = OPERATORS[kind](loss, Executor(1000))
    A = curvature.rows()
    s = loss.scaled_residuals(loss.pinn.params).detach().numpy()
    theta = {n: p.clone().requires_grad_() for n, p in loss.pinn.params.items()}
    gradient = torch.autograd.grad(loss.value(theta), list(theta.values()))
    flat = torch.cat([g.flatten() for g in gradient]).numpy()
    np.testing.assert_allclose(A.T @ s, flat, rtol=0, atol=1e-11 * abs(flat).max())
    inverse = fitted("residual-space", curvature, recipe_for("residual-space", kind, 5)).at(0.1)
    assert inverse.has_rows
    step = np.linalg.solve(A.T @ A + 0.1 * np.eye(A.shape[1]), flat)
    found = inverse.solve_rows(s[:, None])[:, 0]
    np.testing.assert_allclose(found, step, rtol=0, atol=1e-9 * abs(step).max())


@pytest.mark.parametrize("n", [30, 300])
def test_extreme_eigenvalues(n):
    method = fitted("dense", Given(with_eigenvalues(np.linspace(-2, 9, n))), GAUSS_NEWTON)
    assert method.lowest == pytest.approx(-2, rel=1e-5)
    assert method.largest == pytest.approx(9, rel=1e-5)


def test_indefinite():
    method = fitted("dense", Given(with_eigenvalues(np.linspace(-3, 5, 40))), GAUSS_NEWTON)
    message = r"damping 1 is not positive definite, its most negative .* is -3: give a larger"
    with pytest.raises(InputError, match=message):
        method.at(1.0)
    assert method.at(3.5).solve(np.eye(40)).shape == (40, 40)


@pytest.mark.parametrize("least", [0.0, 1e-17])
def test_singular(least):
    values = np.concatenate([[least], np.linspace(1, 5, 39)])
    method = fitted("dense", Given(with_eigenvalues(values)), GAUSS_NEWTON)
    with pytest.raises(InputError, match=r"is (singular up to|not positive)"):
        method.at(0.0)


def test_nan():
    with pytest.raises(InputError, match="NaN or infinite"):
        fitted("dense", Given(np.full((40, 40), np.nan)), GAUSS_NEWTON)


def test_no_curvature():
    with pytest.raises(InputError, match="largest eigenvalue is -1: no minimum"):
        fitted("dense", Given(-np.eye(5)), GAUSS_NEWTON)


@pytest.mark.parametrize("name", METHODS)
def test_a_network_that_overflows(flow_pinn, flow_points, name):
    pinn = flow_pinn((2, 4, 3))
    with torch.no_grad():
        pinn.network.linears[-1].weight.fill_(1e200)
    curvature = GaussNewton(Loss(pinn.at(flow_points(5)), WEIGHTS), Executor(9))
    with pytest.raises(InputError, match="NaN or infinite"):
        fitted(name, curvature, recipe_for(name, "gauss-newton", 5))
