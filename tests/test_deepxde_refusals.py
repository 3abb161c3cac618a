"""What cannot be treated rightly is refused by name, in one line; what can be, is not."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
import torch
from deepxde_problems import (
    EVERYWHERE,
    INTERVAL,
    SQUARE,
    brute_force,
    fnn,
    hessian,
    jacobian,
    left,
    on_interval,
    poisson,
    square,
    trained,
)
from torch import nn

from pinnfluence import Influence, InputError
from pinnfluence.influence.embeddings import project
from pinnfluence.models.deepxde.model import dde
from pinnfluence.models.deepxde.reader import from_deepxde
from pinnfluence.runtime.executor import Executor


def refused(model: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        Influence(model)
    assert "\n" not in str(error.value)


def dirichlet() -> Any:
    return dde.icbc.DirichletBC(INTERVAL, square, EVERYWHERE)


def model(pde: Any = poisson, net: Any = None, **settings: Any) -> Any:
    return on_interval([dirichlet()], pde, net, **settings)


@pytest.mark.parametrize("loss", ["MAE", ["MSE", "MAE"], torch.nn.HuberLoss(delta=1e-3)])
def test_losses_without_a_second_derivative(loss):
    number = 2 if isinstance(loss, list) else 1
    refused(model(loss=loss), f"loss {number} of the model: a loss without a positive second")


def test_losses_that_are_no_sums_over_points():
    deviation = lambda target, y: (y - target).std()  # noqa: E731
    refused(model(loss=deviation), "loss 1 of the model: a loss that is no sum over its points")


def test_losses_that_are_squares_for_the_gradient_alone():
    """Weights that follow the residuals, without a derivative of their own."""
    loss = lambda t, y: ((y - t).detach().abs() * (y - t).square()).mean()  # noqa: E731
    refused(model(loss=loss), "is not that of the loss")


def test_a_loss_that_is_the_mean_square_under_another_name():
    own = from_deepxde(model(loss=lambda target, y: torch.mean((y - target) ** 2)))
    assert own.terms == ("residual", "dirichlet")


def test_an_l1_regularizer():
    net = dde.nn.FNN([1, 4, 1], "tanh", "Glorot uniform", regularization=["l1", 1e-3])
    refused(model(net=net), r"a loss with the regulariser \['l1', 0.001\] cannot be treated")


def test_weight_decay_of_an_own_optimizer():
    net = fnn(1, 4, 1)
    found = dde.Model(dde.data.PDE(INTERVAL, poisson, [dirichlet()], 9, 2), net)
    with contextlib.redirect_stdout(io.StringIO()):
        found.compile(torch.optim.AdamW(net.parameters(), weight_decay=0.1), verbose=0)
    refused(found, "the weight decay of AdamW belongs to no loss and cannot be treated")


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


def test_an_equation_with_a_network_of_its_own_in_another_dtype():
    other = fnn(1, 3, 1)
    found = model(pde=lambda x, y: hessian(y, x) - other(x))
    refused(
        found, r"in one dtype throughout \(from_deepxde\(model, dtype=torch.float32\) keeps that\)"
    )
    from_deepxde(found, dtype=torch.float32)


def test_other_data():
    fractional = dde.data.FPDE(
        INTERVAL, lambda x, y, m: y, 1.5, [dirichlet()], [20], num_domain=9, num_boundary=2
    )
    refused(dde.Model(fractional, fnn(1, 4, 1)), "data FPDE cannot be treated")


def test_subclasses_that_change_no_residual():
    class Named(dde.icbc.DirichletBC):  # type: ignore[name-defined]
        pass

    assert from_deepxde(on_interval([Named(INTERVAL, square, left)])).terms[1] == "dirichlet"


def test_a_model_that_was_never_compiled():
    data = dde.data.PDE(INTERVAL, poisson, [dirichlet()], 9, 2)
    refused(dde.Model(data, fnn(1, 4, 1)), "the model was never compiled")


def test_a_model_that_was_compiled_and_restored_needs_no_training():
    found = model(n_steps=1)
    found.train_state = dde.model.TrainState()
    assert from_deepxde(found).terms == ("residual", "dirichlet")


def test_forward_differentiation(monkeypatch):
    found = model()
    monkeypatch.setattr(dde.config, "autodiff", "forward")
    refused(found, "autodiff 'forward' cannot be treated; expected 'reverse'")


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


def test_derivatives_by_another_tensor():
    refused(
        model(lambda x, y: y if x.is_leaf else jacobian(y, 1 * x)),  # not in training
        "dde.grad of another tensor; differentiate",
    )


def test_target_functions_that_broadcast_to_a_square():
    condition = dde.icbc.DirichletBC(INTERVAL, lambda x: x[:, 0], EVERYWHERE)
    refused(on_interval([condition]), r"dirichlet: the function gives shape \(2,\), which DeepXDE")


def test_a_cast_in_the_equation():
    refused(
        model(lambda x, y: hessian(y, x).float()),
        "residual: the function gives torch.float32 where points and outputs are torch.float64",
    )
    pinn = from_deepxde(model(lambda x, y: hessian(y, x).float()), dtype=torch.float32)
    assert {p.dtype for p in pinn.params.values()} == {torch.float32}


class Normalised(nn.Module):
    """A network whose outputs depend on the batch or on chance."""

    regularizer = None

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), layer, nn.Linear(6, 1))

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(6), nn.Dropout(0.5)])
def test_networks_that_depend_on_the_batch_or_on_chance(layer):
    refused(model(net=Normalised(layer)), "without dropout and batch normalisation")


def test_a_condition_that_acts_nowhere():
    condition = dde.icbc.DirichletBC(INTERVAL, square, lambda x, on: False)
    data = dde.data.PDE(INTERVAL, poisson, [condition], 9, 2)
    found = dde.Model(data, fnn(1, 4, 1))
    with contextlib.redirect_stdout(io.StringIO()):
        found.compile("adam", lr=1e-3, verbose=0)
    refused(found, "condition DirichletBC acts on no training point")


def test_a_loss_that_overflows():
    found = model()
    with torch.no_grad():
        found.net.linears[0].weight.fill_(float("nan"))
    refused(found, "loss term residual is nan: the network or its loss overflows")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"inputs": ["x", "y"]}, "expected 1 names of inputs, found x, y"),
        ({"inputs": ["xi"]}, "inputs must be single letters, found 'xi'"),
        ({"outputs": ["u_1"]}, "outputs must be names without underscore, found 'u_1'"),
        ({"outputs": ["x"]}, "names: names must be different, found twice: x"),
        ({"outputs": ["data"]}, "names: .*data"),
    ],
)
def test_names(names, message):
    with pytest.raises(InputError, match=message):
        from_deepxde(model(), **names)


def test_float64_throughout():
    """A model that DeepXDE trained in float64."""
    dde.config.set_default_float("float64")
    try:
        pinn = from_deepxde(model())
        assert pinn.training_points.dtype == np.float64
    finally:
        dde.config.set_default_float("float32")


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
