"""The training loss as one compiled function: parameters to loss terms and gradients."""

from __future__ import annotations

import shutil

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from pinnfluence.errors import InputError
from pinnfluence.loss.loss import LossStep
from pinnfluence.loss.pinn import Collocation, Params
from pinnfluence.loss.points import PointTensors

COMPILE_MODES = ("auto", "on", "off")

WORTHWHILE = 1000
"""Steps from which on compiling takes less time than it saves."""


def loss_step(collocation: Collocation, dtype: torch.dtype, device: torch.device) -> LossStep:
    """DeepXDE's loss ``sum_k c_k L_k``, ``L_k = 1/|S_k| sum_{i in S_k} r_k(z_i)^2``.

    It is ``Loss.of_training`` in DeepXDE's order of operations, a mean and then a weight, which
    decides the last bits of a training. Points and rows are computed once. The function maps
    parameters to the loss terms ``c_k L_k``, ``[n_terms]``, and the gradients of their sum by name.
    """
    at = collocation.tensors(torch.zeros(0, dtype=dtype, device=device))
    weights = collocation.pinn.loss_weights

    def total(params: Params, at: PointTensors) -> tuple[Tensor, Tensor]:
        residuals = collocation.residuals(params, at)
        losses = torch.stack(
            [weights.get(name, 1.0) * r.square().mean() for name, r in residuals.items()]
        )
        return losses.sum(), losses

    differentiate = torch.func.grad_and_value(total, has_aux=True)

    def step(params: Params) -> tuple[Tensor, dict[str, Tensor]]:
        gradients, (_, losses) = differentiate(params, at)
        return losses, gradients

    return step


def compiled(step: LossStep, params: Params) -> LossStep:
    """The same function as one graph, compiled for the parameters' shapes, dtype and device."""
    graph = make_fx(step)({name: p.detach() for name, p in params.items()})
    function: LossStep = torch.compile(graph, dynamic=False)
    function({name: p.detach() for name, p in params.items()})
    return function


def choose(step: LossStep, params: Params, mode: str, n_steps: int) -> tuple[LossStep, str]:
    """The step to train with, and a line that says which and why.

    ``on`` compiles or raises, ``off`` does not compile, ``auto`` compiles where there is a compiler
    and at least ``WORTHWHILE`` steps to be made, and otherwise runs eagerly.

    Raises:
        InputError: unknown mode, or ``on`` where compiling fails.
    """
    if mode not in COMPILE_MODES:
        raise InputError(
            f"unknown mode {mode!r} of --compile, expected one of {', '.join(COMPILE_MODES)}"
        )
    if mode == "off":
        return step, "eager steps, as asked"
    on_cpu = next(iter(params.values())).device.type == "cpu"
    if mode == "auto" and n_steps < WORTHWHILE:
        return step, f"eager steps: compiling does not pay for {n_steps} steps"
    if mode == "auto" and on_cpu and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        return step, "eager steps: no C++ compiler was found"
    try:
        return compiled(step, params), "compiled steps"
    except Exception as error:  # whatever a compiler raises
        reason = " ".join(str(error).split())[:120]
        if mode == "on":
            raise InputError(
                f"--compile on: compiling failed ({reason}); use --compile off"
            ) from error
        return step, f"eager steps: compiling failed ({reason})"
