"""What influence functions cannot treat rightly in a ``dde.Model`` is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pinnfluence.errors import InputError
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Pinn
from pinnfluence.models.deepxde.model import PinnModel, dde
from pinnfluence.models.deepxde.network import cast_copy

TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-2}
"""Relative difference between DeepXDE's loss terms and ours up to which they are the same; in
float32 cancellation in small residuals takes most digits."""


def refuse(model: Any) -> None:
    """Raise InputError for a model that is not what influence functions can treat."""
    if not isinstance(model, dde.Model):
        raise InputError(f"expected a dde.Model or a Pinn, found {type(model).__name__}")
    _refuse_data(model.data)
    if model.outputs_losses_train is None:
        raise InputError("the model was never compiled; call model.compile and train or restore it")
    if dde.config.autodiff != "reverse":
        raise InputError(
            f"autodiff {dde.config.autodiff!r} cannot be treated; expected 'reverse', DeepXDE's own"
        )
    _refuse_regularizers(model)
    if model.batch_size is not None:
        raise InputError(
            f"mini-batches (batch_size={model.batch_size}) cannot be treated; train without "
            "batch_size, which DeepXDE does not use for PDEs anyway"
        )
    callbacks = [] if model.callbacks is None else model.callbacks.callbacks
    if any(isinstance(callback, dde.callbacks.PDEPointResampler) for callback in callbacks):
        raise InputError(
            "resampled points (PDEPointResampler) cannot be treated: no fixed set of training "
            "points; train on fixed points to the end"
        )
    trained_on = model.train_state.X_train
    if trained_on is not None and not isinstance(model, PinnModel):
        _refuse_other_points(trained_on, model.data.train_x)


def _refuse_data(data: Any) -> None:
    steps = ("losses", "losses_train", "train_next_batch", "bc_points")
    pde, own = dde.data.PDE, type(data)
    if not isinstance(data, pde) or any(getattr(own, s) is not getattr(pde, s) for s in steps):
        raise InputError(
            f"data {own.__name__} cannot be treated, expected data.PDE or data.TimePDE"
        )
    if data.auxiliary_var_fn is not None:
        raise InputError("auxiliary variables (auxiliary_var_function) cannot be treated")


def _refuse_regularizers(model: Any) -> None:
    regularizer = getattr(model.net, "regularizer", None)
    if regularizer is not None:
        raise InputError(
            f"a loss with the regulariser {regularizer} cannot be treated; train without it"
        )
    for group in getattr(model.opt, "param_groups", []):
        if group.get("weight_decay"):
            raise InputError(
                f"weight decay {group['weight_decay']} (an L2 regulariser) cannot be treated; "
                "train without it"
            )


def _refuse_other_points(trained_on: np.ndarray, train_x: np.ndarray) -> None:
    if not np.array_equal(trained_on, train_x):
        raise InputError(
            f"the last training had {len(trained_on)} points, the data now hold {len(train_x)} or "
            "others; train again after points were added or resampled"
        )


def check_losses(model: Any, pinn: Pinn, loss_of: Callable[[str], str]) -> None:
    """Compare DeepXDE's own loss terms at its own training points with ``c_k mean r_k^2``.

    ``loss_of`` gives the loss to which a term belongs.

    Raises:
        InputError: they differ, with both figures: the loss is not a mean of squares, residuals
            depend on other points, the network is random or counts batches, ...
    """
    ours = _losses(pinn, loss_of)
    theirs = _own_losses(model, next(iter(pinn.params.values())).dtype)
    if len(ours) != len(theirs):
        raise InputError(f"DeepXDE has {len(theirs)} loss terms, found {len(ours)}: {list(ours)}")
    limit = TOLERANCES[next(iter(pinn.params.values())).dtype]
    for (name, mine), own in zip(ours.items(), theirs.tolist(), strict=True):
        if not np.isfinite([mine, own]).all():
            raise InputError(f"loss term {name} is {own:g}: the network or its loss overflows")
        if abs(mine - own) > limit * max(abs(mine), abs(own)):
            raise InputError(
                f"loss term {name} is {own:.6g} in DeepXDE, but the weighted mean square of its "
                f"residuals is {mine:.6g}; expected the loss 'MSE', residuals that depend on their "
                "own point alone, and a network without dropout and batch normalisation"
            )


def _losses(pinn: Pinn, loss_of: Callable[[str], str]) -> dict[str, float]:
    """Weighted mean squares, in two halves, so that points that see each other are found out."""
    assert pinn.training is not None
    collocation = pinn.at(pinn.training.x)
    losses: dict[str, float] = {}
    halves = max(1, len(collocation.x) // 2)
    for name, mean in Loss.of_means(collocation).term_sums(halves).items():
        part = pinn.loss_weights.get(name, 1.0) * mean
        losses[loss_of(name)] = losses.get(loss_of(name), 0.0) + part
    return losses


def _own_losses(model: Any, dtype: torch.dtype) -> np.ndarray:
    """Loss terms as DeepXDE computes them, on a copy of the network in the given dtype."""
    net, data = model.net, model.data
    x = data.train_x.astype(torch.zeros(0, dtype=dtype, device="cpu").numpy().dtype)
    model.net = cast_copy(net, dtype)
    try:
        with torch.random.fork_rng(devices=[]):
            _, losses = model.outputs_losses_train(x, data.train_y, None)
    except Exception as error:  # whatever a user's functions raise
        raise InputError(
            f"DeepXDE's own loss cannot be evaluated in {dtype}: {type(error).__name__}: {error}; "
            "read the model with the dtype that it was trained in"
        ) from error
    finally:
        model.net = net
    return losses.detach().cpu().numpy()
