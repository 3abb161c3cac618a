"""Functional differentiation, ``torch.func``: for networks of any architecture."""

from __future__ import annotations

from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from pinnfluence.loss.differentiators.base import Differentiator, Gradients
from pinnfluence.loss.differentiators.double_backward import DoubleBackward
from pinnfluence.loss.differentiators.per_sample import by_vmap
from pinnfluence.loss.pinn import Collocation, Params
from pinnfluence.loss.points import PointTensors
from pinnfluence.runtime.warn_once import reason_of, warn_once

_REFUSED: WeakKeyDictionary[nn.Module, set[tuple[str, ...]]] = WeakKeyDictionary()


class Functional(Differentiator):
    """Gradients of one point, vmapped over the points.

    What ``torch.func`` refuses, such as equations that call NumPy, is done by ``DoubleBackward``,
    with a warning.
    """

    name = "functional"

    def jacobian(self, chunk: Collocation) -> Gradients:
        network, names = chunk.pinn.network, chunk.names[0]
        if len(chunk) and names not in _REFUSED.get(network, ()):
            try:
                return {name: _by_vmap(chunk, name) for name in names}
            except (RuntimeError, TypeError, ValueError) as error:
                _REFUSED.setdefault(network, set()).add(names)
                warn_once(
                    network,
                    f"slower method, same scores: gradients of {', '.join(names)} by double "
                    f"backward: torch.func refuses: {reason_of(error)}",
                )
        return DoubleBackward().jacobian(chunk)


def _by_vmap(chunk: Collocation, name: str) -> tuple[Tensor, Tensor]:
    at = chunk.tensors()
    x, (data,) = at.x, at.data
    points = x.view(-1, len(chunk), x.shape[1]).transpose(0, 1)  # each point with its image
    row = (torch.zeros(1, dtype=torch.long, device=x.device),)

    def residual(theta: Params, point: Tensor, data: Tensor | None, name: str) -> Tensor:
        given = (None if data is None else data[None],)
        return chunk.residuals(theta, PointTensors(point, row, given))[name][0]

    in_dims = (0, None if data is None else 0)
    return by_vmap(partial(residual, name=name), chunk.pinn.params, (points, data), in_dims)
