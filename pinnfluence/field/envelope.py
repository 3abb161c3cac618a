"""Envelopes: fixed functions of the points with which a network's outputs are multiplied.

Where the envelope is zero the output is zero, whatever the parameters are: a homogeneous Dirichlet
condition that holds exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

import torch
from torch import Tensor

Envelope = Callable[[Tensor], Tensor]
"""From points ``[n, n_inputs]`` to factors ``[n, n_outputs]``, by operations of PyTorch."""


def multiply(
    streams: Mapping[tuple[int, ...], Tensor | None], envelope: Envelope, x: Tensor
) -> dict[tuple[int, ...], Tensor | None]:
    """Derivatives of ``envelope(x) * z(x)`` from those of z, by the product rule.

    ``d_I (a z) = sum_{S in I} d_S a d_{I - S} z``, the sum over all subsets of places.

    Args:
        streams: derivatives of z, ``[n, n_outputs]`` by multi-index, with all that they are built
            from; None is zero.
        envelope: the factor.
        x: points ``[n, n_inputs]``.
    """
    factors = {index: _derivative(envelope, x, index) for index in streams}
    product: dict[tuple[int, ...], Tensor | None] = {}
    for index in streams:
        total: Tensor | None = None
        places = range(len(index))
        for n in range(len(index) + 1):
            for chosen in combinations(places, n):
                rest = tuple(index[i] for i in places if i not in chosen)
                z = streams[rest]
                if z is not None:
                    part = factors[tuple(index[i] for i in chosen)] * z
                    total = part if total is None else total + part
        product[index] = total
    return product


def _derivative(envelope: Envelope, x: Tensor, index: tuple[int, ...]) -> Tensor:
    """A derivative of the factors, ``[n, n_outputs]``.

    By reverse mode: nested forward mode sends operations with plain numbers through PyTorch's
    Python layer, at ten times the cost, and must be locked.
    """
    if not index:
        return envelope(x)
    value, pull, *_ = torch.func.vjp(lambda z: _derivative(envelope, z, index[:-1]), x)
    columns = torch.eye(value.shape[1], dtype=value.dtype, device=value.device)
    return torch.stack([pull(c.expand_as(value))[0][:, index[-1]] for c in columns], 1)
