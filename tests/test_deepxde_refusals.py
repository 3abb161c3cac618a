"""What cannot be treated rightly is refused by name, in one line; what can be, is not."""

import contextlib
import io

import numpy as np
import pytest
import torch
from deepxde_poisson import dirichlet, model, refused
from deepxde_problems import (
    EVERYWHERE,
    INTERVAL,
    fnn,
    hessian,
    jacobian,
    left,
    on_interval,
    poisson,
    square,
)
from torch import nn

from pinnfluence import InputError
from pinnfluence.models.deepxde.model import dde
from pinnfluence.models.deepxde.reader import from_deepxde


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
