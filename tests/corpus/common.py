"""What the models of the corpus share: training for a few steps, small networks, places."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

import pinnfluence

_ = pinnfluence.from_deepxde  # imports DeepXDE with its PyTorch backend, without its banner

import deepxde as dde  # noqa: E402

jacobian, hessian = dde.grad.jacobian, dde.grad.hessian
UNIT = dde.geometry.Interval(0, 1)
SQUARE = dde.geometry.Rectangle([0, 0], [1, 1])
UNIT_TIME = dde.geometry.GeometryXTime(UNIT, dde.geometry.TimeDomain(0, 1))


@contextlib.contextmanager
def default_float(name: str = "float64") -> Iterator[None]:
    """DeepXDE and PyTorch compute in a dtype until the block ends."""
    before = dde.config.default_float()
    with contextlib.redirect_stdout(io.StringIO()):
        dde.config.set_default_float(name)
    try:
        yield
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            dde.config.set_default_float(before)


def compile_and_train(
    model: Any, n_steps: int = 5, optimizer: Any = "adam", callbacks: Any = None, **settings: Any
) -> Any:
    """Compile a model and train it for a few steps, without a word."""
    model.own_loss = settings.get("loss", "MSE")  # DeepXDE itself does not keep it
    lr = 1e-3 if optimizer in ("adam", "sgd") else None
    with contextlib.redirect_stdout(io.StringIO()):
        model.compile(optimizer, lr=lr, verbose=0, **settings)
        model.train(iterations=n_steps, display_every=10**6, verbose=0, callbacks=callbacks)
    return model


def trained(data: Any, net: nn.Module, **settings: Any) -> Any:
    """A trained ``dde.Model`` of data and a network; biases are no longer zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            noise = torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(0.2 * (noise - 0.5))
    return compile_and_train(dde.Model(data, net), **settings)


def fnn(*layers: int, activation: Any = "tanh", regularization: Any = None) -> Any:
    """A multilayer perceptron of DeepXDE."""
    return dde.nn.FNN(list(layers), activation, "Glorot uniform", regularization)


def boundary(x: np.ndarray, on_boundary: bool) -> bool:
    return bool(on_boundary)


def left(x: np.ndarray, on_boundary: bool) -> bool:
    return bool(on_boundary and np.isclose(x[0], 0))


def right(x: np.ndarray, on_boundary: bool) -> bool:
    return bool(on_boundary and np.isclose(x[0], 1))


def initially(x: np.ndarray, on_initial: bool) -> bool:
    return bool(on_initial)


def starts(x: np.ndarray, on_boundary: bool) -> bool:
    """The initial time, of an ``OperatorBC``."""
    return bool(np.isclose(x[-1], 0))


def zero(x: np.ndarray) -> float:
    return 0
