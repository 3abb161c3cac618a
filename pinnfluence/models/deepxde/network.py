"""The network of a ``dde.Model``, and the unknowns of its inverse problem, as one module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pinnfluence.field.network import MAX_ORDER, MLP
from pinnfluence.models.deepxde.model import dde
from pinnfluence.models.own_network import ByAutograd, OwnNetwork, Unknowns, Wrapped
from pinnfluence.runtime.warn_once import warn_once

ACTIVATIONS = {
    **{getattr(dde.backend, name): name for name in ("gelu", "sigmoid", "silu", "sin", "tanh")},
    **{torch.sigmoid: "sigmoid", torch.sin: "sin", torch.tanh: "tanh"},
    **{nn.functional.gelu: "gelu", nn.functional.silu: "silu", nn.functional.tanh: "tanh"},
}
"""Functions that DeepXDE's networks take as activations, by the names of ``MLP``."""


class InverseMLP(MLP):
    """An MLP with the unknowns of an inverse problem among its parameters."""

    def __init__(self, network: MLP, unknowns: Unknowns) -> None:
        super().__init__(network.layers, network.activation, network.scale)
        self.linears = network.linears
        self.unknowns = unknowns.parameters(next(network.parameters()))


def translate(
    net: nn.Module,
    own: OwnNetwork,
    points: Tensor,
    orders: Mapping[str, int],
    by_autograd: str = "",
) -> nn.Module:
    """The network for influence functions: an ``MLP`` where it is one, else itself, wrapped.

    The latter is slower; a warning says why.

    Args:
        net: a copy of the user's network, which becomes part of the result.
        own: the user's network itself, and the unknowns of the inverse problem, possibly none.
        points: training points ``[n, n_inputs]``, at which an input transform is tried.
        orders: highest order of a derivative by equation; Taylor-mode streams have a limit.
        by_autograd: why derivatives are taken in reverse mode; empty where they need not.
    """
    unknowns = own.unknowns
    if by_autograd:
        return ByAutograd(net.eval(), own)
    found = _as_mlp(net, points)
    for name, order in orders.items():
        if order > MAX_ORDER:
            found = f"{name} has derivatives of order {order}, above {MAX_ORDER}"
    if isinstance(found, MLP):
        return InverseMLP(found, unknowns) if len(unknowns) else found
    wrapped = Wrapped(net.eval(), unknowns)
    warn_once(
        wrapped,
        "slower method, same scores: derivatives of the network by nested forward "
        f"differentiation, not by streams: {found}",
    )
    return wrapped


def _as_mlp(net: nn.Module, points: Tensor) -> MLP | str:
    """The same network as an MLP, or why it is none."""
    if type(net) is not dde.nn.FNN:
        return f"it is a {type(net).__name__}, not an FNN"
    if net._output_transform is not None:
        return "it has an output transform"
    functions = net.activation if isinstance(net.activation, list) else [net.activation]
    try:
        names = {ACTIVATIONS.get(function) for function in functions}
    except TypeError:  # an activation that cannot be hashed
        names = {None}
    name = names.pop()
    if name is None or names:
        return f"its activation is not one of {', '.join(dict.fromkeys(ACTIVATIONS.values()))}"
    scale = _scale_of(net._input_transform, points)
    if scale is None or len(scale) != net.linears[0].in_features:
        return "its input transform is more than a division of each input"
    layers = [len(scale), *(linear.out_features for linear in net.linears)]
    mlp = MLP(layers, name, scale).to(net.linears[0].weight)
    mlp.load_state_dict({k: v for k, v in net.state_dict().items() if k.startswith("linears.")})
    return mlp


def _scale_of(transform: Any, points: Tensor) -> tuple[float, ...] | None:
    """Lengths by which an input transform divides each input; None where it does something else."""
    n_inputs = points.shape[1]
    if transform is None:
        return (1.0,) * n_inputs
    with torch.no_grad():
        tried = torch.cat([torch.eye(n_inputs).to(points), torch.zeros(1, n_inputs).to(points)])
        tried = torch.cat([tried, points, 3.7 * points])
        found = transform(tried.clone())
        if found.shape != tried.shape or found.dtype != tried.dtype:
            return None
        factors = found[:n_inputs].diagonal()
        if not (factors > 0).all() or not torch.allclose(found, tried * factors, 1e-12, 1e-12):
            return None
    return tuple((1 / factors).tolist())


def own_parameters(model: Any, network: nn.Module) -> dict[str, Tensor]:
    """The parameters of a model and its unknowns, by their names in the network of its ``Pinn``."""
    prefix = "net." if isinstance(network, Wrapped) else ""
    own = {f"{prefix}{n}": p for n, p in model.net.named_parameters()}
    return own | {
        f"unknowns.{n}": p for n, p in enumerate(model.external_trainable_variables or ())
    }
