"""Gradients of single points for any module: vmapped, or one backward pass a point."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from pinnfluence.loss.collocation import Collocation, Params
from pinnfluence.runtime.slow_ways import reason_of, tell_once

LOOP_POINTS = 16
"""Points whose residuals share a graph where gradients are taken one after another."""


def jacobian_by_functions(chunk: Collocation) -> dict[str, tuple[Tensor, Tensor]]:
    """The same for any module: vmapped, or one backward pass a point where that cannot be done."""
    if len(chunk.x) == 0:
        size = chunk.pinn.n_params
        empty = next(iter(chunk.pinn.params.values())).new_zeros(0)
        return {name: (empty, empty.new_zeros(0, size)) for name in chunk.names[0]}
    try:
        return _by_vmap(chunk)
    except (RuntimeError, TypeError, ValueError) as error:  # such as equations that call numpy
        tell_once(
            chunk.pinn.network,
            f"slow way: gradients of {', '.join(chunk.names[0])} take a backward pass a point, "
            f"torch.func.vmap refuses: {reason_of(error)}",
        )
        parts = [_by_loop(part) for part in chunk.chunks(LOOP_POINTS)]
        return {
            name: (torch.cat([p[name][0] for p in parts]), torch.cat([p[name][1] for p in parts]))
            for name in chunk.names[0]
        }


def _by_loop(chunk: Collocation) -> dict[str, tuple[Tensor, Tensor]]:
    params = {name: p.detach().requires_grad_() for name, p in chunk.pinn.params.items()}
    with torch.enable_grad():
        residuals = chunk.residuals(params, *chunk.tensors())
    found = {}
    for name, values in residuals.items():
        rows = [
            torch.autograd.grad(
                value, list(params.values()), retain_graph=True, materialize_grads=True
            )
            for value in values
        ]
        flat = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        found[name] = (values.detach(), flat)
    return found


def _by_vmap(chunk: Collocation) -> dict[str, tuple[Tensor, Tensor]]:
    x, _ = chunk.tensors()
    places = x.view(-1, len(chunk.x), x.shape[1]).transpose(0, 1)  # each point with its image
    data, params = chunk.data_tensors()[0], chunk.pinn.params
    row = (torch.zeros(1, dtype=torch.long, device=x.device),)
    (names,) = chunk.names

    def quantity(
        params: Params, place: Tensor, given: Tensor | None, name: str
    ) -> tuple[Tensor, Tensor]:
        given = None if given is None else given[None]
        value = chunk.residuals(params, place, row, data=(given,))[name][0]
        return value, value

    found = {}
    in_dims = (None, 0, None if data is None else 0)
    for name in names:
        gradient = torch.func.grad(partial(quantity, name=name), has_aux=True)
        gradients, values = torch.func.vmap(gradient, in_dims=in_dims)(params, places, data)
        flat = torch.cat([gradients[key].reshape(len(x), -1) for key in params], 1)
        found[name] = (values.detach(), flat.detach())
    return found
