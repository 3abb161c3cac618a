"""A user's functions called as DeepXDE calls them: on the user's own network, with autograd.

For what the look-up of derivatives cannot follow: equations that call ``torch.autograd`` or the
network itself, conditions of the user's own, targets that depend on unknowns, networks that
differentiate in their forward pass. Slower than the look-up, and right for whatever PyTorch can
differentiate twice.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pinnfluence.field.field import Field
from pinnfluence.models.deepxde.model import dde
from pinnfluence.models.own_network import OwnNetwork, cast
from pinnfluence.runtime.devices import tensor_like


def outputs_of(
    function: Callable[[Tensor, Tensor, Field], Any],
    f: Field,
    own: OwnNetwork,
    points: np.ndarray | None = None,
) -> Any:
    """What a function of points, outputs and the field gives at the field's points, or others.

    If the field has images, they are the second half of the points, as DeepXDE has it.
    """
    images = [f.image.points] if hasattr(f, "image") else []
    x = torch.cat([f.points, *images]) if points is None else tensor_like(points, f.points)
    with torch.enable_grad():
        try:
            x = x.detach().requires_grad_()
            return own(f.params, lambda net: function(x, net(x), f))
        finally:
            dde.grad.clear()


def condition_error(condition: Any) -> Callable[[Tensor, Tensor, Field], Any]:
    """``condition.error`` at any points, without what it caches for its own."""

    def function(x: Tensor, y: Tensor, f: Field) -> Any:
        own = copy.copy(condition)
        for attribute in ("func", "boundary_normal"):
            cached = getattr(own, attribute, None)
            if function := getattr(cached, "__wrapped__", None):
                setattr(own, attribute, _uncached(function, x))
        points = x.detach().cpu().numpy().astype(dde.config.real(np))
        own.batch_size = None
        values = getattr(own, "values", None)
        if isinstance(values, Tensor) and not values.requires_grad:
            own.values = values.to(x)
        return own.error(points, x, y, 0, len(x))

    return function


def _uncached(function: Any, like: Tensor) -> Callable[..., Tensor]:
    """A function of a range of points, evaluated each time; DeepXDE caches it by ``id(X)``.

    A tensor that depends on an unknown keeps its graph and its digits.
    """
    plain = getattr(function, "__wrapped__", function)

    def call(X: np.ndarray, begin: int, end: int, _: Any = None) -> Tensor:
        values = plain(X[begin:end])
        values = values if isinstance(values, Tensor) else function(X[begin:end])
        return values.to(like)

    return call


@contextmanager
def in_dtype(net: nn.Module, variables: Sequence[Tensor], dtype: torch.dtype) -> Iterator[None]:
    """The user's own network and unknowns in another dtype, for as long as the block lasts."""
    tensors = [*net.parameters(), *net.buffers(), *variables]
    before = [tensor.data for tensor in tensors]
    attributes = [
        (m, {k: v for k, v in vars(m).items() if not k.startswith("_")}) for m in net.modules()
    ]
    try:
        for tensor in tensors:
            tensor.data = cast(tensor.data, dtype)
        for module, values in attributes:
            vars(module).update({k: cast(v, dtype) for k, v in values.items()})
        yield
    finally:
        for tensor, data in zip(tensors, before, strict=True):
            tensor.data = data
        for module, values in attributes:
            vars(module).update(values)
