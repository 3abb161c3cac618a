"""Functions written with ``dde.grad``, evaluated on a field: derivatives are looked up.

While a user's function of points x and outputs y runs, ``dde.grad.jacobian`` and
``dde.grad.hessian`` take the derivatives of y from those that the field already holds, and those of
an expression ``g(x, y, y_x, ...)`` from them by the chain rule, ``dg/dx_j = sum_s (dg/ds) s_{x_j}``
over all that g depends on; dg/ds is a backward pass through the arithmetic of g alone. So residuals
are a function of the field and of the parameters that can be differentiated and vmapped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pinnfluence.errors import InputError
from pinnfluence.field.network import MultiIndex
from pinnfluence.models.deepxde.grad import answering
from pinnfluence.models.own_network import Substitute

Function = Callable[[Tensor, Tensor], Any]
"""From points ``[n, n_inputs]`` and outputs ``[n, n_outputs]`` to whatever the user returns."""

Stream = Callable[[MultiIndex], Tensor]
"""A derivative of all outputs ``[n, n_outputs]`` by its multi-index."""


class _Run:
    """One evaluation of a user's function, in which ``dde.grad`` is answered."""

    def __init__(self, function: Function, x: Tensor, stream: Stream) -> None:
        self._function, self._given = function, stream
        self.streams: dict[MultiIndex, Tensor] = {}
        y = self._stream(())
        self._x = _tracked(x + 0 * y[:, :1])  # in the graph, also where y is one of torch.func

    def result(self, substitutes: Mapping[int, Tensor]) -> Any:
        """What the function returns."""
        with answering(self._derivatives), Substitute(substitutes):
            return self._function(self._x, self._stream(()))

    def _stream(self, index: MultiIndex) -> Tensor:
        if index not in self.streams:
            self.streams[index] = _tracked(self._given(index))
        return self.streams[index]

    def _derivatives(
        self, ys: Tensor, xs: Tensor, column: int, indices: Sequence[MultiIndex]
    ) -> Tensor:
        """Derivatives ``[n, len(indices)]`` of a column of ``ys``."""
        if xs is not self._x:
            raise InputError(
                "expected derivatives by the inputs x as they came into the function, found "
                "dde.grad of another tensor; differentiate by x and choose the column with j"
            )
        return torch.stack([self._derivative(ys[:, column], index) for index in indices], 1)

    def _derivative(self, values: Tensor, index: MultiIndex) -> Tensor:
        for direction in index:
            streams = dict(self.streams)
            of_x, *slopes = torch.autograd.grad(
                values.sum(), [self._x, *streams.values()], create_graph=True, allow_unused=True
            )
            total = torch.zeros_like(values) if of_x is None else of_x[:, direction]
            for base, slope in zip(streams, slopes, strict=True):
                if slope is not None:
                    derivative = self._stream(tuple(sorted((*base, direction))))
                    total = total + (slope * derivative).sum(1)
            values = total
        return values


def _tracked(tensor: Tensor) -> Tensor:
    """The same numbers as a tensor of its own, by which expressions can be differentiated."""
    own = tensor.view_as(tensor)
    return own if own.requires_grad else own.detach().requires_grad_()


def needs(function: Function, x: Tensor, n_outputs: int) -> set[MultiIndex]:
    """Which derivatives of the outputs a function needs at points such as ``x``, ``[n, d]``.

    Raises:
        InputError: it differentiates by something else than its argument x.
    """
    generator = torch.Generator("cpu").manual_seed(0)

    def made_up(_: MultiIndex) -> Tensor:  # the same numbers on every device
        drawn = torch.rand(len(x), n_outputs, dtype=x.dtype, device="cpu", generator=generator)
        return (drawn + 0.5).to(x.device)

    with torch.enable_grad():
        run = _Run(function, x, made_up)
        run.result({})
    return set(run.streams)


def call(
    function: Function,
    x: Tensor,
    streams: Mapping[MultiIndex, Tensor],
    substitutes: Mapping[int, Tensor],
) -> Any:
    """Result of ``function(x, y)`` where y and its derivatives are the streams ``[n, n_outputs]``.

    ``substitutes`` are tensors that take the place of others, by ``id`` of these.
    """

    def known(index: MultiIndex) -> Tensor:
        if index not in streams:
            raise RuntimeError(f"derivative {index} was not computed for this field")
        return streams[index]

    with_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        result = _Run(function, x, known).result(substitutes)
    if with_graph:
        return result
    return [r.detach() for r in result] if isinstance(result, (list, tuple)) else result.detach()
