"""What influence functions cannot treat rightly in a ``dde.Model`` is refused by name.

The losses and gradients of a translated model are compared with DeepXDE's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinnfluence.errors import InputError
from pinnfluence.loss.differentiators import loss_gradient
from pinnfluence.loss.differentiators.per_sample import flat_gradient
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Pinn
from pinnfluence.loss.quotients import agrees, direction_of, quotients
from pinnfluence.models.deepxde.model import dde
from pinnfluence.models.deepxde.network import own_parameters
from pinnfluence.models.deepxde.own_loss import own_model
from pinnfluence.runtime.executor import BATCH_SIZE
from pinnfluence.runtime.warn_once import warn_once

TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-2}
"""Relative difference between DeepXDE's loss terms and ours up to which they are the same; in
float32 cancellation in small residuals takes most digits."""

GRADIENT_TOLERANCES = {torch.float64: 1e-5, torch.float32: 3e-2}
"""Relative difference between the gradients of a loss term up to which they are the same."""

ROUNDING = 50 * float(np.finfo(float).eps)
"""Rounding of a residual whose terms are of order 1 to 100, in float64: a network that went through
its points has nothing else left."""


class MismatchError(InputError):
    """The model's own losses or gradients are not what is computed here."""


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
    regularizer = getattr(model.net, "regularizer", None)
    if regularizer is not None and regularizer[0] != "l2":
        raise InputError(
            f"a loss with the regulariser {regularizer} cannot be treated; expected ('l2', factor)"
        )
    if isinstance(model.opt, torch.optim.AdamW) and any(
        group.get("weight_decay") for group in model.opt.param_groups
    ):
        raise InputError(
            "the weight decay of AdamW belongs to no loss and cannot be treated; "
            "expected Adam with the regulariser ('l2', factor)"
        )
    if model.batch_size is not None:
        raise InputError(
            f"mini-batches (batch_size={model.batch_size}) cannot be treated; train without "
            "batch_size, which DeepXDE does not use for PDEs anyway"
        )


def _refuse_data(data: Any) -> None:
    pde, own = dde.data.PDE, type(data)
    if own in (dde.data.DataSet, dde.data.Function):
        if getattr(data, "online", False):
            raise InputError("data Function with online=True has no fixed training points")
        return
    steps = ("losses", "losses_train", "train_next_batch", "bc_points")
    if not isinstance(data, pde) or any(getattr(own, s) is not getattr(pde, s) for s in steps):
        raise InputError(
            f"data {own.__name__} cannot be treated, expected data.PDE, data.TimePDE, data.DataSet "
            "or data.Function"
        )


def check_model(
    model: Any,
    pinn: Pinn,
    loss_of: Callable[[str], str],
    offsets: Sequence[float] = (0.0,),
) -> None:
    """Compare DeepXDE's own loss terms, and their gradients by theta, with those of a ``Pinn``.

    ``loss_of`` gives the loss to which a term belongs. ``offsets``: what DeepXDE's losses are more
    than those of the ``Pinn``, because they are no squares.

    Raises:
        MismatchError: they differ, with both figures: the loss is not a mean of squares, residuals
            depend on other points, the network is random or counts batches, ...
        InputError: DeepXDE's own loss overflows or cannot be evaluated.
    """
    assert pinn.training is not None
    loss = Loss.of_training(pinn.at(pinn.training.x))
    ours, dtype = _losses(loss, loss_of), pinn.like.dtype
    with own_model(model, dtype) as evaluate:
        losses = evaluate()
        if len(ours) != len(losses):
            raise InputError(f"DeepXDE has {len(losses)} loss terms, found {len(ours)}: {[*ours]}")
        theirs = losses.detach().cpu().numpy() - np.array(offsets)
        for (name, mine), own in zip(ours.items(), theirs, strict=True):
            _compare_losses(name, mine, own, _limit(TOLERANCES, dtype, own))
        parameters = _parameters(model, pinn)
        gradients = [flat_gradient(term, parameters, retain_graph=True) for term in losses]
        direction = direction_of(parameters)
        slopes = _quotients(evaluate, parameters, direction)
    scale = max(float(gradient.norm()) for gradient in gradients)
    for k, (name, gradient) in enumerate(zip(ours, gradients, strict=True)):
        terms = {t: w * (loss_of(t) == name) for t, w in loss.weights.items()}
        found = loss_gradient(replace(loss, weights=terms), BATCH_SIZE)
        steps = slopes[:, k]
        limit = _limit(GRADIENT_TOLERANCES, dtype, theirs[k])
        _compare_gradients(name, found, gradient, scale, direction, steps, limit, model.net)


def _limit(tolerances: Mapping[torch.dtype, float], dtype: torch.dtype, loss: float) -> float:
    """Relative difference of a loss up to which it is the same; of residuals r, ``2 dr / r``."""
    if dtype is not torch.float64 or not loss > 0:
        return tolerances[dtype]
    return tolerances[dtype] + 2 * ROUNDING / float(loss) ** 0.5


def _quotients(
    evaluate: Callable[[], Tensor], parameters: list[Tensor], direction: Tensor
) -> np.ndarray:
    """Difference quotients of the model's own losses along a direction, ``[n_steps, n_losses]``."""
    before = [p.data for p in parameters]
    parts = direction.split([p.numel() for p in parameters])

    def at(step: float) -> np.ndarray:
        for p, data, part in zip(parameters, before, parts, strict=True):
            p.data = data + step * part.view_as(data)
        return evaluate().detach().cpu().double().numpy()

    try:
        return quotients(at)
    finally:
        for p, data in zip(parameters, before, strict=True):
            p.data = data


def _compare_losses(name: str, mine: float, own: float, limit: float) -> None:
    if not np.isfinite([mine, own]).all():
        raise InputError(f"loss term {name} is {own:g}: the network or its loss overflows")
    if abs(mine - own) > limit * max(abs(mine), abs(own)):
        raise MismatchError(
            f"loss term {name} is {own:.6g} in DeepXDE, but the weighted mean square of its "
            f"residuals is {mine:.6g}; expected the loss 'MSE', residuals that depend on their "
            "own point alone, and a network without dropout and batch normalisation"
        )


def _compare_gradients(
    name: str,
    mine: Tensor,
    own: Tensor,
    scale: float,
    direction: Tensor,
    quotients: np.ndarray,
    limit: float,
    net: torch.nn.Module,
) -> None:
    """Compare with the model's own gradient, and both with difference quotients of its loss."""
    difference, size = float((mine - own).norm()), float(own.norm())
    same = difference <= limit * size + 1e-3 * limit * scale
    if not (same or agrees(float(mine @ direction), quotients, scale, limit)):
        raise MismatchError(
            f"the gradient of loss term {name} is {difference / size:.1e} off that of DeepXDE's "
            "own loss, relative to it; expected residuals whose derivatives by the parameters "
            "PyTorch can take"
        )
    if agrees(float(own @ direction), quotients, scale, limit):
        return
    if same:
        raise MismatchError(
            f"the gradient of loss term {name} that PyTorch computes is not that of the loss: "
            f"{float(own @ direction):.6g} along a direction in which the loss changes by "
            f"{quotients[-1]:.6g}; an operation of the network has wrong higher derivatives, write "
            "it out by elementary functions"
        )
    warn_once(
        net,
        f"PyTorch's own gradient of loss term {name} is {difference / size:.1e} off the difference "
        "quotient of the loss, so the training followed a wrong gradient and its end is no "
        "minimum; scores take the right gradient",
    )


def _losses(loss: Loss, loss_of: Callable[[str], str]) -> dict[str, float]:
    """Weighted mean squares, in two halves, so that points that see each other are found out."""
    losses: dict[str, float] = {}
    for name, value in loss.term_sums(max(1, len(loss) // 2)).items():
        losses[loss_of(name)] = losses.get(loss_of(name), 0.0) + value
    return losses


def _parameters(model: Any, pinn: Pinn) -> list[Tensor]:
    """The model's own parameters, in the order of theta."""
    own = own_parameters(model, pinn.network)
    return [own[name] for name in pinn.params]
