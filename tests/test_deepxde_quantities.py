"""Quantities and groups of training points that are asked for at a model in DeepXDE."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from deepxde_problems import model_of
from deepxde_reference import close, double, flat_gradient, points_of, recipe, reference_of
from torch import Tensor

from pinnfluence import Influence, InputError


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
    with pytest.raises(InputError, match="gradient of the quantity is NaN or infinite at"):
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
