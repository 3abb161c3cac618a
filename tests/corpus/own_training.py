"""Users' own ways to train: which parameters, which points, which loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .common import (
    UNIT,
    boundary,
    compile_and_train,
    dde,
    fnn,
    hessian,
    right,
    trained,
    zero,
)


def pde(x: Tensor, y: Tensor) -> Tensor:
    return hessian(y, x) + y**2 - torch.sin(3 * x)


def problem(distribution: str = "Hammersley", **settings: Any) -> Any:
    conditions = [
        dde.icbc.DirichletBC(UNIT, zero, boundary),
        dde.icbc.NeumannBC(UNIT, lambda x: 0.3, right),
    ]
    return dde.data.PDE(UNIT, pde, conditions, 12, 2, train_distribution=distribution, **settings)


def loss_weights() -> Any:
    return trained(problem(), fnn(1, 6, 6, 1), loss_weights=[0.1, 100, 3])


def zero_weight() -> Any:
    return trained(problem(), fnn(1, 6, 6, 1), loss_weights=[1, 0, 3])


def last_layer() -> Any:
    """Transfer learning: a second optimiser moves the last layer alone."""
    model = trained(problem(), fnn(1, 6, 6, 1))
    optimizer = torch.optim.Adam(model.net.linears[-1].parameters(), lr=1e-3)
    return compile_and_train(model, optimizer=optimizer)


def frozen_layers() -> Any:
    """The first layer shall be fixed, but DeepXDE lets all layers require gradients again."""
    net = fnn(1, 6, 6, 1)
    net.linears[0].requires_grad_(False)
    return trained(problem(), net)


def fixed_first_layer() -> Any:
    """Transfer learning: the optimiser knows all layers but the first; an unknown moves as well."""
    unknown = dde.Variable(0.8)

    def with_unknown(x: Tensor, y: Tensor) -> Tensor:
        return pde(x, y) + unknown * y

    net = fnn(1, 6, 6, 1)
    optimizer = torch.optim.Adam([*net.linears[1:].parameters(), unknown], lr=1e-3)
    data = dde.data.PDE(UNIT, with_unknown, dde.icbc.DirichletBC(UNIT, zero, boundary), 12, 2)
    return trained(data, net, optimizer=optimizer, external_trainable_variables=[unknown])


def frozen_unknown() -> Any:
    """A variable that the equation uses but that is not trained."""
    unknown = dde.Variable(0.8)

    def with_unknown(x: Tensor, y: Tensor) -> Tensor:
        return pde(x, y) + unknown * y

    data = dde.data.PDE(UNIT, with_unknown, dde.icbc.DirichletBC(UNIT, zero, boundary), 12, 2)
    return trained(data, fnn(1, 6, 6, 1))


def l2_regulariser() -> Any:
    return trained(problem(), fnn(1, 6, 6, 1, regularization=["l2", 1e-2]))


def l1_regulariser() -> Any:
    return trained(problem(), fnn(1, 6, 6, 1, regularization=["l1", 1e-2]))


def decoupled_decay() -> Any:
    """AdamW shrinks the weights outside the loss."""
    net = fnn(1, 6, 6, 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    return trained(problem(), net, optimizer=optimizer)


def lbfgs() -> Any:
    model = trained(problem(), fnn(1, 6, 6, 1))
    options = dde.optimizers.config.LBFGS_options
    before = dict(options)
    options.update(maxiter=5, iter_per_step=5, fun_per_step=10)
    try:
        return compile_and_train(model, optimizer="L-BFGS")
    finally:
        options.update(before)


def resampled() -> Any:
    """The points of the equation change while it trains; the last draw was trained on."""
    callback = dde.callbacks.PDEPointResampler(period=3)
    return trained(problem("pseudo"), fnn(1, 6, 6, 1), callbacks=[callback])


def resampled_then_fixed() -> Any:
    """After resampling, training goes on with the last points."""
    return compile_and_train(resampled())


def added_anchors() -> Any:
    """Refinement: points are added, then training goes on."""
    model = trained(problem(), fnn(1, 6, 6, 1))
    model.data.add_anchors(np.array([[0.31], [0.77]]))
    return compile_and_train(model)


def anchors_and_exclusions() -> Any:
    data = problem(anchors=np.array([[0.25], [0.5]]), exclusions=[np.array([0.0])])
    return trained(data, fnn(1, 6, 6, 1))


def repeated_points() -> Any:
    """The same point twice among the training points."""
    return trained(problem(anchors=np.array([[0.4], [0.4], [0.0]])), fnn(1, 6, 6, 1))


def weighted_loss() -> Any:
    """A user's own loss: squares with weights of the points."""

    def loss(target: Tensor, error: Tensor) -> Tensor:
        weights = torch.linspace(0.5, 2, len(error)).to(error)[:, None]
        return (weights * (error - target) ** 2).mean()

    return trained(problem(), fnn(1, 6, 6, 1), loss=[loss, "MSE", "MSE"])


def sums_of_squares() -> Any:
    """Losses that are sums, one of them over points that repeat others of the training."""
    loss = lambda target, error: 0.5 * (error - target).square().sum()  # noqa: E731
    data = problem(anchors=np.array([[0.25], [0.25], [0.5]]))
    return trained(data, fnn(1, 6, 6, 1), loss=loss, loss_weights=[1, 2, 0.3])


def log_cosh() -> Any:
    """A loss that is smooth but no square."""
    loss = lambda target, value: torch.log(torch.cosh(3 * (value - target))).mean()  # noqa: E731
    return trained(problem(), fnn(1, 6, 6, 1), loss=loss)


def mean_absolute_error() -> Any:
    return trained(problem(), fnn(1, 6, 6, 1), loss="MAE")


def mini_batches(batch_size: int | None = 3) -> Any:
    """Measurements in mini-batches: on average, training saw all of them."""
    points = np.linspace(0.1, 0.9, 6)[:, None]
    measured = dde.icbc.PointSetBC(points, np.sin(points), batch_size=batch_size)
    data = dde.data.PDE(UNIT, pde, [measured], 12, 2)
    callback = dde.callbacks.PDEPointResampler(period=3, bc_points=True)
    return trained(data, fnn(1, 6, 6, 1), callbacks=[callback])


MODELS = (
    *(loss_weights, zero_weight, last_layer, frozen_layers, fixed_first_layer),
    *(
        frozen_unknown,
        l2_regulariser,
        l1_regulariser,
        decoupled_decay,
        lbfgs,
        resampled,
        resampled_then_fixed,
    ),
    *(added_anchors, anchors_and_exclusions, repeated_points, weighted_loss, log_cosh),
    *(mean_absolute_error, sums_of_squares),
)
