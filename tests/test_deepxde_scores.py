"""Influence for models of DeepXDE against dense matrices from its own losses, double backward."""

import copy
import functools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from deepxde_problems import MODELS, brute_force, deepxde_losses, double, flat_gradient, model_of
from torch import Tensor

import pinnfluence
from pinnfluence import Influence, InputError, Recipe
from pinnfluence.curvature.operators import GaussNewton, Hessian
from pinnfluence.loss.loss import Loss
from pinnfluence.models.deepxde.model import dde
from pinnfluence.models.deepxde.reader import from_deepxde
from pinnfluence.runtime.executor import Executor

DAMPING = {"hessian": 1000.0, "gauss-newton": 0.1}
"""Above the negative eigenvalues of the Hessians, which belong to networks far from a minimum."""

by_problem = pytest.mark.parametrize("name", MODELS)
FEW = ("periodic", "pointset", "lorenz", "inverse_transform", "own_module")
"""Of each kind one, where a matrix and the gradients are compared for all."""


def recipe(curvature: str, rank: int | str = "full") -> Recipe:
    damping = DAMPING[curvature]
    return Recipe("paper", curvature, "training", rank, damping, threshold=0.0)


@dataclass
class Reference:
    """Dense matrices ``[n_params, n_params]``, gradients of the losses ``[n_train, n_params]``."""

    hessian: np.ndarray
    gauss_newton: np.ndarray
    gradients: dict[str, np.ndarray]

    def inverse_times(self, curvature: str, rows: np.ndarray) -> np.ndarray:
        matrix = self.hessian if curvature == "hessian" else self.gauss_newton
        return np.linalg.solve(matrix + DAMPING[curvature] * np.eye(len(matrix)), rows.T)


@functools.cache
def reference_of(name: str) -> Reference:
    """From DeepXDE's own loss, differentiated twice, and residuals point by point."""
    model = model_of(name)
    pinn = from_deepxde(model)
    total, theta = deepxde_losses(model)
    gradient = torch.autograd.grad(total, theta, create_graph=True, materialize_grads=True)
    flat = torch.cat([g.flatten().double() for g in gradient])
    hessian = torch.stack([flat_gradient(entry, theta) for entry in flat])
    places = pinn.at(pinn.training_points)
    newton, by_term = torch.zeros_like(hessian), {}
    columns = zip(pinn.terms, brute_force(model), places.term_rows().values(), strict=True)
    for term, (points, values, rows), acting in columns:
        weight = pinn.loss_weights[term] / len(values)
        newton += 2 * weight * rows.T @ rows
        by_term[term] = np.zeros((len(places.x), len(hessian)))
        order = matching(pinn.training_points[acting], points)
        by_term[term][acting] = (2 * weight * values[:, None] * rows)[order].numpy()
    return Reference(hessian.numpy(), newton.numpy(), by_term)


def matching(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """For each of our points the number of the same among theirs; repeated ones in their order."""
    order, free = [], [tuple(point) for point in theirs]
    for point in ours:
        number = free.index(tuple(point))
        free[number] = ()
        order.append(number)
    return np.array(order)


def points_of(name: str, n: int = 4) -> np.ndarray:
    """Test points inside the domain."""
    return np.random.default_rng(0).uniform(0.1, 0.9, (n, model_of(name).data.train_x.shape[1]))


def test_gradients(name: str, x: np.ndarray) -> np.ndarray:
    """Gradients of the last output, ``[n, n_params]``."""
    model = model_of(name)
    net = double(model.net)
    theta = [*net.parameters(), *model.external_trainable_variables]
    return torch.stack([flat_gradient(y, theta) for y in net(torch.as_tensor(x))[:, -1]]).numpy()


test_gradients.__test__ = False  # type: ignore[attr-defined]


def close(found: np.ndarray, expected: np.ndarray, name: str, relative: float = 1e-6) -> None:
    """To the rounding of scores, which are kept in float32, as are DeepXDE's unknowns."""
    if model_of(name).external_trainable_variables:
        relative = 1e-5
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, atol=relative * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize(
    ("name", "batch_size"),
    [*((name, 1000) for name in MODELS), *((name, 7) for name in ("periodic", "pointset"))],
)
def test_curvature(name, batch_size):
    pinn, expected = from_deepxde(model_of(name)), reference_of(name)
    places = pinn.at(pinn.training_points)
    rows = places.term_rows()
    weights = {term: pinn.loss_weights[term] / len(rows[term]) for term in pinn.terms}
    loss, executor = Loss(places, weights), Executor(batch_size)
    close(Hessian(loss, executor).dense(), expected.hessian, name, 1e-9)
    close(GaussNewton(loss, executor).dense(), expected.gauss_newton, name, 1e-9)


@pytest.mark.parametrize(
    ("name", "curvature"),
    [*((name, "gauss-newton") for name in MODELS), *((name, "hessian") for name in FEW)],
)
def test_scores_of_an_output(name, curvature):
    influence = Influence(model_of(name), recipe=recipe(curvature))
    expected, x = reference_of(name), points_of(name)
    scores = influence.scores(x, influence.pinn.outputs[-1])
    solved = expected.inverse_times(curvature, test_gradients(name, x))
    close(np.asarray(scores), (sum(expected.gradients.values()) @ solved).T, name)
    parts = scores.by_term()
    for term, gradients in expected.gradients.items():
        close(parts[term], (gradients @ solved).T, name)
    np.testing.assert_allclose(sum(parts.values()), scores.values, atol=1e-12)


@pytest.mark.parametrize("name", FEW)
def test_self_influence(name):
    expected = reference_of(name)
    gradients = np.sum(list(expected.gradients.values()), axis=0)
    diagonal = np.sum(gradients * expected.inverse_times("gauss-newton", gradients).T, axis=1)
    influence = Influence(model_of(name), recipe=recipe("gauss-newton"), batch_size=5)
    close(influence.self_influence(), diagonal, name)


@by_problem
def test_the_model_is_left_as_it_is(name):
    model = model_of(name)
    before = copy.deepcopy(snapshot(model))
    answers = dde.grad.gradients_reverse.jacobian, dde.grad.gradients_reverse.hessian
    influence = Influence(model, recipe=recipe("gauss-newton"))
    influence.scores(points_of(name), "all")
    after = snapshot(model)
    assert before.keys() == after.keys()
    for key, value in before.items():
        if isinstance(value, Tensor | np.ndarray):
            np.testing.assert_array_equal(after[key], value, err_msg=key)
            assert after[key].dtype == value.dtype
        else:
            assert after[key] == value, key
    assert answers == (dde.grad.gradients_reverse.jacobian, dde.grad.gradients_reverse.hessian)


def snapshot(model):
    """All that a user may look at afterwards."""
    state = {f"net {key}": value.detach() for key, value in model.net.state_dict().items()}
    state |= {f"grad {key}": p.grad for key, p in model.net.named_parameters()}
    unknowns = enumerate(model.external_trainable_variables)
    state |= {f"unknown {n}": v.detach() for n, v in unknowns}
    return state | {
        "modes": [module.training for module in model.net.modules()],
        "requires_grad": [p.requires_grad for p in model.net.parameters()],
        "id": id(model.net),
        "train_x": model.data.train_x,
        "random": torch.get_rng_state(),
        "numpy": np.random.get_state(legacy=False)["state"]["key"],  # noqa: NPY002
        "default": torch.get_default_dtype(),
        "float": dde.config.default_float(),
    }


@pytest.fixture(scope="module")
def pointset():
    return Influence(model_of("pointset"), recipe=recipe("gauss-newton"), batch_size=4)


def test_a_derived_quantity_is_one_line(pointset):
    x = points_of("pointset")
    vorticity = pointset.scores(x, lambda f: f.v_x - f.u_y).values
    net = double(model_of("pointset").net)
    theta: list[Tensor] = list(net.parameters())
    points = torch.as_tensor(x).requires_grad_()
    y = net(points)
    (u, v) = (torch.autograd.grad(y[:, n].sum(), points, create_graph=True)[0] for n in (0, 1))
    gradients = torch.stack([flat_gradient(w, theta) for w in v[:, 0] - u[:, 1]]).numpy()
    expected = reference_of("pointset")
    solved = expected.inverse_times("gauss-newton", gradients)
    close(vorticity, (sum(expected.gradients.values()) @ solved).T, "pointset")


@pytest.mark.parametrize(
    ("quantity", "message"),
    [
        (lambda f: f.u - f.u.mean(), "depends on other points than its own"),
        (lambda f: f.u / f.v.max(), "depends on other points than its own"),
        (lambda f: 1e4 + f.u - f.u.mean(), "depends on other points than its own"),
        (lambda f: torch.log(f.u - f.u.median()), "depends on other points than its own"),
        (lambda f: f.u * torch.ones(3, dtype=f.u.dtype), "cannot be evaluated.*some of the points"),
        (lambda f: f.u.mean(), r"has shape \(\) at 5 points"),
        (lambda f: f.u[:, None], r"has shape \(5, 1\) at 5 points"),
        (lambda f: (f.u,), "gives tuple, expected a tensor"),
        (lambda f: 3.0, "gives float, expected a tensor"),
        (lambda f: f.u > 0, "gives torch.bool, expected a tensor of floats"),
        (lambda f: f.u.detach(), "cannot be differentiated"),
    ],
)
def test_what_is_no_function_of_one_point(pointset, quantity, message, monkeypatch):
    x = points_of("pointset", 5)
    fresh = Influence(pointset.pinn, pointset.train_x, recipe("gauss-newton"), 4)
    monkeypatch.setattr(Influence, "fit", pytest.fail)  # refused before any work
    with pytest.raises(InputError, match=message):
        fresh.scores(x, quantity)
    pinn = replace(pointset.pinn, quantities={"mine": quantity})
    with pytest.raises(InputError, match=f"the quantity mine.*{message}"):
        Influence(pinn, pointset.train_x, recipe("gauss-newton"), 4).influence(x)


def test_values_that_are_not_finite_everywhere_are_functions_of_one_point(pointset):
    x = points_of("pointset", 5)
    middle = float(np.median(pointset.scores(x, "u").values))  # some number
    pointset.scores(x, lambda f: torch.where(f.u > middle, f.u, f.u / 0))


def test_repeated_training_points_are_told():
    model = model_of("pointset")
    with pytest.warns(UserWarning, match="training points are repeated.*give data.train_x_all"):
        Influence(model, np.repeat(model.data.train_x_all, 2, 0), batch_size=4)


def test_an_integral_has_one_row(pointset):
    x, weights = points_of("pointset", 7), np.linspace(0.2, 1.4, 7)
    single = pointset.scores(x, "u").values
    integral = pointset.scores(x, "u", weights=weights)
    assert integral.shape == (1, single.shape[1])
    np.testing.assert_allclose(integral[0], weights @ single, atol=1e-6 * np.abs(single).max())
    with pytest.raises(InputError, match="expected 7 weights, found shape"):
        pointset.scores(x, "u", weights=weights[:3])
    with pytest.raises(InputError, match="finite weights"):
        pointset.scores(x, "u", weights=weights * np.inf)


def test_top_and_groups(pointset):
    scores = pointset.scores(points_of("pointset"), "v")
    points, values = scores.top(5)
    for row, number, value in zip(scores, points, values, strict=True):
        np.testing.assert_array_equal(value, row[number])
        assert np.sort(np.abs(row))[-5:][::-1].tolist() == np.abs(value).tolist()
    mask = np.zeros(scores.shape[1], bool)
    mask[[3, 0, 7]] = True
    np.testing.assert_allclose(scores.group([3, 0, 7]), scores.values[:, [0, 3, 7]].sum(1))
    np.testing.assert_array_equal(scores.group(mask), scores.group([0, 3, 7]))
    np.testing.assert_array_equal(scores.group([]), 0)


@pytest.mark.parametrize("group", [[1, 1], [0.5], [-1], [10**6], [[0, 1]], [True, False]])
def test_what_is_no_group(pointset, group):
    with pytest.raises(InputError, match="expected"):
        pointset.scores(points_of("pointset"), "v").group(group)


@pytest.mark.parametrize("k", [0, 10**6])
def test_a_k_that_cannot_be(pointset, k):
    with pytest.raises(InputError, match="expected k from 1 to"):
        pointset.scores(points_of("pointset"), "v").top(k)


def test_an_unknown_quantity(pointset):
    with pytest.raises(InputError, match="no quantity 'speed', expected one of u, v, residual_1,"):
        pointset.scores(points_of("pointset"), "speed")


def test_losses_at_the_training_points_are_the_trainings(pointset):
    """Also where points repeat: the diagonal of ``all`` is the self-influence, unweighted."""
    x = pointset.train_x
    scores = pointset.scores(x, "all")
    parts = [pointset.scores(x, term).values for term in pointset.pinn.terms]
    np.testing.assert_allclose(scores.values, sum(parts), atol=1e-6 * np.abs(parts).max())
    for term, rows in pointset.pinn.at(x).term_rows().items():
        others = np.setdiff1d(np.arange(len(x)), rows)
        assert (pointset.scores(x, term)[others] == 0).all()
        assert (np.abs(pointset.scores(x, term)[rows]).max(1) > 0).all()


def test_score_file(tmp_path):
    """All quantities at once, at low rank, stored and read again."""
    influence = Influence(model_of("pointset"), recipe=recipe("gauss-newton", 30))
    x = points_of("pointset")
    scores = influence.influence(x)
    loaded = pinnfluence.load_scores(scores.save(tmp_path))
    for quantity in ("u", "v", "residual_2", "pde"):
        exact = influence.scores(x, quantity).values
        size = np.abs(exact).max()
        np.testing.assert_allclose(np.asarray(loaded[quantity]), exact, atol=1e-5 * size)
    assert isinstance(loaded, pinnfluence.Scores)
    assert loaded.terms == influence.pinn.terms


def test_a_model_of_this_package():
    """It brings its equations along."""
    from pinnfluence.models.deepxde.model import build
    from pinnfluence.problems.cylinder_flow import PROBLEM

    model = build(
        PROBLEM.changed(layers=(2, 4, 4, 3), num_domain=30, num_boundary=60), "corrected", seed=1
    )
    model.compile("adam", lr=1e-3, verbose=0)
    pinn = from_deepxde(model)
    assert pinn.terms == model.pinn.terms
    np.testing.assert_array_equal(pinn.training_points, model.train_x)
    x = torch.as_tensor(model.train_x)
    torch.testing.assert_close(pinn.network(x.double()).float(), model.net(x))


@pytest.mark.parametrize("argument", [None, "model.pt", 3])
def test_what_is_no_model(argument):
    with pytest.raises(InputError, match=r"expected a dde\.Model or a Pinn, found"):
        Influence(argument)


def test_a_pinn_without_training_points(flow_pinn):
    with pytest.raises(InputError, match="no training points: give train_x"):
        Influence(flow_pinn())
