"""A network with a linear correction: what it predicts if its parameters move by a small step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pinnfluence.diagnosis.widened import widened
from pinnfluence.field import module_call
from pinnfluence.field.forward_mode import jvp
from pinnfluence.field.module_call import copied
from pinnfluence.field.network import MLP, MultiIndex, Streams, Tape
from pinnfluence.loss.pinn import Pinn
from pinnfluence.runtime.devices import tensor_like

UNKNOWNS = "unknowns."
"""How the names of parameters begin that belong to the equations, not to the network."""


def corrected(pinn: Pinn, d: np.ndarray) -> Pinn:
    """The same PINN whose fields are ``u(x) + grad u(x) . d``, with all their derivatives.

    The correction is linear in d, where a network with the parameters theta + d bends. Its
    residuals are those of the equations themselves at the corrected fields, so that nonlinear
    equations show what a linear step leaves. Unknowns of the equations move by their part of d.

    Args:
        d: step of the parameters, ``[n_params]``, or of those of the ``widened`` network.
    """
    if len(d) != pinn.n_params and (wide := widened(pinn)) is not None:
        pinn = wide
    network, tangent = copied(pinn.network), split(pinn, d)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if name.startswith(UNKNOWNS) and name in tangent:
                p.add_(tangent[name])
    correction = _Correction(pinn.network, tangent)
    methods = _streams(correction) if isinstance(network, MLP) else _outputs(correction)
    network.__class__ = type("Corrected", (type(network),), methods)
    return replace(pinn, network=network)


def is_correctable(pinn: Pinn) -> bool:
    """Whether all values of a PINN come from its fields: not where functions of the user's call
    the network themselves."""
    return not getattr(pinn.network, "by_autograd", False)


def split(pinn: Pinn, vector: np.ndarray) -> dict[str, Tensor]:
    """The parts of a vector ``[n_params]`` that belong to each parameter."""
    params = pinn.params
    like = next(iter(params.values()))
    parts = tensor_like(vector, like).split([p.numel() for p in params.values()])
    return {n: part.view(p.shape) for (n, p), part in zip(params.items(), parts, strict=True)}


class _Correction:
    """The derivative of a network's values along a step, at the parameters that it has now."""

    def __init__(self, network: nn.Module, tangent: Mapping[str, Tensor]) -> None:
        self.network = copied(network)
        params = {name: p.detach() for name, p in self.network.named_parameters()}
        self.theta = {name: params[name] for name in tangent}
        self.constants = {name: p for name, p in params.items() if name not in tangent}
        self.tangent = dict(tangent)

    def along(self, function: Callable[[dict[str, Tensor]], Any]) -> Any:
        """The derivative of a function of the parameters."""

        def of_theta(theta: dict[str, Tensor]) -> Any:
            return function({**self.constants, **theta})

        return jvp(of_theta, (self.theta,), (self.tangent,))[1]


def _streams(correction: _Correction) -> dict[str, Any]:
    """The method of an MLP whose streams are corrected."""

    def taylor(
        self: MLP,
        params: Mapping[str, Tensor],
        x: Tensor,
        wanted: Iterable[MultiIndex],
        tape: Tape | None = None,
    ) -> Streams:
        wanted = list(wanted)
        streams = MLP.taylor(self, params, x, wanted, tape)
        present = [index for index, z in streams.items() if z is not None]

        def values(moved: dict[str, Tensor]) -> tuple[Tensor | None, ...]:
            found = MLP.taylor(self, moved, x, wanted)
            return tuple(found[index] for index in present)

        changes = dict(zip(present, correction.along(values), strict=True))
        return {i: None if z is None else z + changes[i] for i, z in streams.items()}

    return {"taylor": taylor}


def _outputs(correction: _Correction) -> dict[str, Any]:
    """The method of any other network whose outputs are corrected."""
    network = correction.network

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        value: Tensor = type(network).forward(self, x)
        change: Tensor = correction.along(lambda params: module_call.call(network, params, x))
        return value + change

    return {"forward": forward}
