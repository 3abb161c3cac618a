"""Influence for models of DeepXDE against dense matrices from its own losses, double backward."""

import copy

import numpy as np
import pytest
import torch
from deepxde_problems import MODELS, model_of
from deepxde_reference import close, double, flat_gradient, points_of, recipe, reference_of
from torch import Tensor

import pinnfluence
from pinnfluence import Influence, InputError
from pinnfluence.curvature.operators import GaussNewton, Hessian
from pinnfluence.loss.loss import Loss
from pinnfluence.models.deepxde.model import dde
from pinnfluence.models.deepxde.reader import from_deepxde
from pinnfluence.runtime.executor import Executor

by_problem = pytest.mark.parametrize("name", MODELS)
FEW = ("periodic", "pointset", "lorenz", "inverse_transform", "own_module")
"""Of each kind one, where a matrix and the gradients are compared for all."""


def output_gradients(name: str, x: np.ndarray) -> np.ndarray:
    """Gradients of the last output, ``[n, n_params]``."""
    model = model_of(name)
    net = double(model.net)
    theta = [*net.parameters(), *model.external_trainable_variables]
    return torch.stack([flat_gradient(y, theta) for y in net(torch.as_tensor(x))[:, -1]]).numpy()


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
    solved = expected.inverse_times(curvature, output_gradients(name, x))
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
        "numpy, position": np.random.get_state(legacy=False)["state"]["pos"],  # noqa: NPY002
        "default": torch.get_default_dtype(),
        "float": dde.config.default_float(),
    }


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
