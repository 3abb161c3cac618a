"""What is checked of residuals in plain PyTorch before anything is computed from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from pinnfluence.errors import InputError
from pinnfluence.loss.differentiators import loss_gradient
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Pinn
from pinnfluence.loss.quotients import agrees, direction_of, quotients
from pinnfluence.runtime.executor import BATCH_SIZE
from pinnfluence.runtime.warn_once import warn_once

TOLERANCE = 1e-6
"""Relative difference of losses that rounding makes."""

GRADIENT_TOLERANCES = {torch.float64: 1e-5, torch.float32: 3e-2}
"""Relative difference of gradients that rounding makes."""


def check_residuals(pinn: Pinn) -> None:
    """Refuse residuals that influence functions cannot treat.

    Raises:
        InputError: residuals that overflow or depend on other points than their own; gradients by
            theta that are not those of the loss.
    """
    loss = Loss.of_training(pinn.at(pinn.training_points))
    parts = [loss.only(number) for number in range(len(pinn.names))]
    for names, part in zip(pinn.names, parts, strict=True):
        _check_values(names, part)
    _check_gradients(pinn, parts)


def _check_values(names: tuple[str, ...], part: Loss) -> None:
    """Compare the losses at all points together with those in halves."""
    together, in_halves = part.term_sums(len(part)), part.term_sums(max(1, len(part) // 2))
    for name in names:
        whole, halves = together[name], in_halves[name]
        if not np.isfinite(whole):
            raise InputError(f"loss term {name} is {whole:g}: the network or its loss overflows")
        if abs(whole - halves) > TOLERANCE * max(abs(whole), abs(halves)):
            raise InputError(
                f"{name}: the residuals depend on other points than their own: {whole:.6g} at "
                f"all points together, {halves:.6g} in halves; expected a function of one"
            )


def _check_gradients(pinn: Pinn, parts: list[Loss]) -> None:
    """Compare the gradient of each loss with difference quotients along a random direction."""
    direction = direction_of(pinn.params.values())
    moves = direction.split([p.numel() for p in pinn.params.values()])
    gradients = [loss_gradient(part, BATCH_SIZE) for part in parts]
    scale = max(float(gradient.norm()) for gradient in gradients)

    def losses_at(step: float) -> np.ndarray:
        pairs = zip(pinn.params.items(), moves, strict=True)
        theta = {name: p + step * move.view_as(p) for (name, p), move in pairs}
        with torch.no_grad():
            return np.array(
                [sum(float(c.value(theta)) for c in part.chunks(BATCH_SIZE)) for part in parts]
            )

    limit, slopes = GRADIENT_TOLERANCES[pinn.like.dtype], quotients(losses_at)
    for k, gradient in enumerate(gradients):
        name, slope = ", ".join(pinn.names[k]), float(gradient @ direction)
        if not agrees(slope, slopes[:, k], scale, limit):
            raise InputError(
                f"the gradient of loss term {name} that PyTorch computes is not that of the loss: "
                f"{slope:.6g} along a direction in which the loss changes by {slopes[-1, k]:.6g}; "
                "an operation has wrong higher derivatives (write it out by elementary "
                "functions), or the residuals detach something that depends on the parameters "
                "(give it beside the points, as numbers)"
            )
        if not gradient.any() and losses_at(0.0)[k] > 0:
            warn_once(
                pinn.network,
                f"loss term {name} does not depend on the trained parameters, so all of its scores "
                "are 0: its residuals should use the network that is given to them",
            )


def check_modes(network: nn.Module) -> None:
    """Refuse layers that give something else while they train than when they are evaluated.

    Networks are evaluated, so the loss would be another one than that of the training.

    Raises:
        InputError: dropout or batch normalisation in training mode.
    """
    for name, layer in network.named_modules():
        chance = getattr(layer, "p" if isinstance(layer, _DropoutNd) else "dropout", 0)
        drops = isinstance(chance, float) and chance > 0
        if layer.training and (isinstance(layer, _BatchNorm | nn.RReLU) or drops):
            raise InputError(
                f"layer {name or 'network'} ({type(layer).__name__}) gives other values while it "
                "trains, so that the loss is another one; if that of the evaluated network is "
                "meant, call network.eval() before"
            )


def check_letters(inputs: Sequence[str], width: int) -> None:
    """Refuse names of inputs that are no letters, or not as many as the points have coordinates.

    Raises:
        InputError: see above.
    """
    if len(inputs) != width or any(len(letter) != 1 for letter in inputs):
        raise InputError(f"expected {width} inputs of one letter, found {', '.join(inputs)}")
