"""Training points of models in DeepXDE: which are taken, and which are refused."""

import contextlib
import io

import numpy as np
import pytest
import torch
from deepxde_poisson import dirichlet, model, refused
from deepxde_problems import (
    EVERYWHERE,
    INTERVAL,
    SQUARE,
    fnn,
    hessian,
    jacobian,
    left,
    on_interval,
    poisson,
    square,
    trained,
)
from deepxde_reference import brute_force

from pinnfluence.influence.embeddings import project
from pinnfluence.models.deepxde.model import dde
from pinnfluence.models.deepxde.reader import from_deepxde
from pinnfluence.runtime.executor import Executor


def test_a_condition_in_mini_batches_beside_an_equation_that_mixes_points():
    points = np.linspace(0.1, 0.9, 6)[:, None]
    measured = dde.icbc.PointSetBC(points, points, batch_size=3)
    mixed = lambda x, y: poisson(x, y) - y.mean()  # noqa: E731
    refused(on_interval([measured], mixed), "loss term residual is")


def test_mini_batches():
    found = model()
    with contextlib.redirect_stdout(io.StringIO()):
        found.train(iterations=1, batch_size=4, verbose=0)
    refused(found, r"mini-batches \(batch_size=4\) cannot be treated")


def test_a_point_set_of_more_values_than_components():
    points = np.linspace(-1, 1, 6)[:, None]
    condition = dde.icbc.PointSetBC(points, np.hstack([points, points]), component=0)
    refused(on_interval([condition]), r"values have shape \(6, 2\), expected \(6, 1\)")


def test_resampled_points():
    """The last ones are taken, and the user is told."""
    found = model()
    resampler = dde.callbacks.PDEPointResampler(period=2)
    with contextlib.redirect_stdout(io.StringIO()):
        found.train(iterations=3, callbacks=[resampler], verbose=0)
    with pytest.warns(
        UserWarning, match=r"points were resampled \(PDEPointResampler\): scores are"
    ):
        pinn = from_deepxde(found)
    last = np.unique(found.data.train_x_all, axis=0)
    np.testing.assert_array_equal(np.unique(pinn.training_points, axis=0), last)


def test_points_added_after_the_last_training():
    found = model()
    found.data.add_anchors(np.array([[0.123]]))
    refused(found, "the last training had 13 points, the data now hold 14 or others; train again")
    with contextlib.redirect_stdout(io.StringIO()):
        found.train(iterations=2, verbose=0)
    pinn = from_deepxde(found)
    assert len(pinn.training_points) == 12
    eye = torch.eye(pinn.n_params, dtype=torch.float64)
    rows = project(pinn.at(pinn.training_points), eye, Executor(1000))
    for (_, values, _), ours in zip(brute_force(found), rows.values(), strict=True):
        torch.testing.assert_close(ours.values.sort()[0], values.sort()[0])


def test_points_that_conditions_alone_have():
    """Anchors that took the place of all points: the conditions keep the old ones."""
    found = model()
    found.data.replace_with_anchors(np.linspace(-0.5, 0.5, 5)[:, None])
    with contextlib.redirect_stdout(io.StringIO()):
        found.train(iterations=2, verbose=0)
    pinn = from_deepxde(found)
    rows = pinn.at(pinn.training_points).points.rows
    assert [len(r) for r in rows] == [5, 2]
    np.testing.assert_array_equal(pinn.training_points[5:], [[-1], [1]])


@pytest.mark.parametrize("anchors", [[1, 0.2, -1], [0.2, 1]])
def test_points_of_conditions_in_another_order(anchors):
    """Data and images go with their points."""
    conditions = [
        dde.icbc.DirichletBC(INTERVAL, lambda x: 3 * x + 1, EVERYWHERE),
        dde.icbc.PeriodicBC(INTERVAL, 0, EVERYWHERE),
    ]
    found = on_interval(conditions)
    found.data.replace_with_anchors(np.array(anchors)[:, None])
    with contextlib.redirect_stdout(io.StringIO()):
        found.train(iterations=2, verbose=0)
    pinn = from_deepxde(found)
    residuals = pinn.at(pinn.training_points).residuals(pinn.params)
    rows = pinn.at(pinn.training_points).term_rows()
    for term in ("dirichlet", "periodic"):
        x = pinn.training_points[rows[term]]
        u, there = found.predict(x)[:, 0], found.predict(-x)[:, 0]
        expected = u - (3 * x[:, 0] + 1) if term == "dirichlet" else u - there
        np.testing.assert_allclose(residuals[term].numpy(), expected, atol=1e-6)


def test_conditions_without_an_equation():
    """Points on which nothing acts are left out."""
    found = on_interval([dirichlet()], pde=None)
    pinn = from_deepxde(found)
    assert pinn.terms == ("dirichlet",)
    np.testing.assert_array_equal(np.sort(pinn.training_points, axis=0), [[-1], [1]])


def mean_of_all(x, y):
    return hessian(y, x) - y.mean()


def test_residuals_that_depend_on_other_points():
    """Also where all points are those of the equation, so that the mean is over the same ones."""
    message = "loss term residual is .* residuals that depend on their own point"
    refused(model(mean_of_all), message)
    refused(on_interval([], mean_of_all), message)


def test_a_condition_that_acts_nowhere():
    condition = dde.icbc.DirichletBC(INTERVAL, square, lambda x, on: False)
    data = dde.data.PDE(INTERVAL, poisson, [condition], 9, 2)
    found = dde.Model(data, fnn(1, 4, 1))
    with contextlib.redirect_stdout(io.StringIO()):
        found.compile("adam", lr=1e-3, verbose=0)
    refused(found, "condition DirichletBC acts on no training point")


def test_conditions_at_test_points():
    """Where they act is decided on points as DeepXDE stores them; targets are of the place."""
    domain = dde.geometry.GeometryXTime(SQUARE, dde.geometry.TimeDomain(0, 1))
    conditions = [
        dde.icbc.DirichletBC(domain, lambda x: x[:, 1:2], left),
        dde.icbc.IC(domain, lambda x: 2 * x[:, 0:1], lambda x, on: on),
        dde.icbc.PeriodicBC(domain, 1, lambda x, on: on and dde.utils.isclose(x[1], 1)),
        dde.icbc.PointSetBC(np.array([[0.3, 0.4, 0.5]]), np.array([[7.0]])),
    ]
    data = dde.data.TimePDE(domain, lambda x, y: jacobian(y, x, j=2), conditions, 9, 40, 10)
    found = trained(data, fnn(3, 4, 1))
    pinn = from_deepxde(found)
    assert pinn.inputs == ("x", "y", "t")
    x = np.array([[-1.0, 0.3, 0.7], [0.1, 0.2, 0.0], [0.3, 0.4, 0.5], [0.6, 1.0, 0.2], [0, 0, 0.3]])
    places = pinn.at(x)
    rows = {name: r.tolist() for name, r in places.term_rows().items()}
    assert rows == {
        "residual": [0, 1, 2, 3, 4],
        "dirichlet": [0],
        "ic": [1],
        "periodic": [3],
        "pointset": [2],
    }
    residuals = places.residuals(pinn.params)
    u = found.predict(np.vstack([x, [[0.6, -1.0, 0.2]]]).astype(np.float32))[:, 0]
    expected = {"dirichlet": u[0] - 0.3, "ic": u[1] - 0.2, "periodic": u[3] - u[5]}
    for name, value in (expected | {"pointset": u[2] - 7}).items():
        assert residuals[name].item() == pytest.approx(value, abs=1e-6), name
