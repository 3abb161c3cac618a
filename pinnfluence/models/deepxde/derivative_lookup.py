"""Functions written with ``dde.grad``, evaluated on a field: derivatives are looked up.

While a user's function of points x and outputs y runs, ``dde.grad.jacobian`` and
``dde.grad.hessian`` of y, of columns of y and of derivatives of y return what the field already
holds, so that residuals are plain forward arithmetic: a function of the parameters that can be
differentiated, vmapped and compiled. The derivative of an expression ``g(x, u, u_x, ...)`` comes
from the same by the chain rule, ``dg/dx_j = sum_s (dg/ds) s_{x_j}`` over all that g depends on,
where dg/ds is a backward pass through the arithmetic of g alone.
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

Column = tuple[int, MultiIndex]
"""Number of an output, and the inputs by which it was differentiated."""

COLUMN_FUNCTIONS = {
    *(torch.Tensor.__getitem__, torch.split, torch.Tensor.split, torch.chunk, torch.Tensor.chunk),
    *(torch.hsplit, torch.Tensor.hsplit, torch.tensor_split, torch.Tensor.tensor_split),
    *(torch.narrow, torch.Tensor.narrow, torch.index_select, torch.Tensor.index_select),
}
"""Functions that may choose columns of a tensor and leave its rows as they are."""


class _Run(Substitute):
    """One evaluation of a user's function, in which ``dde.grad`` is answered."""

    def __init__(
        self,
        function: Function,
        x: Tensor,
        streams: Mapping[MultiIndex, Tensor],
        substitutes: Mapping[int, Tensor],
        has_expressions: bool = False,
    ) -> None:
        super().__init__(substitutes)
        self._function, self._x, self._streams = function, x, streams
        self._known: dict[int, tuple[Tensor, list[Column]]] = {}
        self._handed_out: dict[MultiIndex, Tensor] = {}
        self.has_expressions = has_expressions

    def result(self) -> Any:
        """What the function returns."""
        y = self._stream(())
        if self.has_expressions:  # x becomes a part of the graph, also where y is one of torch.func
            self._x = _tracked(self._x + 0 * y[:, :1])
        self._remember(y, [(number, ()) for number in range(y.shape[1])])
        with answering(self.derivatives), self:
            return self._function(self._x, y)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        if func in COLUMN_FUNCTIONS and args and isinstance(args[0], Tensor):
            columns = self._columns(args[0])
            if columns is not None:
                self._note_columns(columns, args[0], func, args[1:], kwargs or {}, result)
        return result

    def _note_columns(
        self, columns: list[Column], whole: Tensor, func: Any, args: Any, kwargs: Any, result: Any
    ) -> None:
        """Find out which columns were chosen by choosing from their numbers in the same way."""
        try:
            numbers = func(torch.arange(len(columns), device=whole.device)[None], *args, **kwargs)
        except (IndexError, RuntimeError, TypeError, ValueError):
            return
        if isinstance(result, Tensor):
            result, numbers = [result], [numbers]
        for part, chosen in zip(result, numbers, strict=False):
            if chosen.ndim == 2 and len(chosen) == 1:
                picked = chosen[0].cpu().tolist()
                if part.shape == (len(whole), len(picked)):
                    self._remember(part, [columns[number] for number in picked])

    def _remember(self, tensor: Tensor, columns: list[Column]) -> None:
        self._known[id(tensor)] = (tensor, columns)  # kept alive, so that the id stays its own

    def _columns(self, tensor: Tensor) -> list[Column] | None:
        known = self._known.get(id(tensor))
        return None if known is None else known[1]

    def _stream(self, index: MultiIndex) -> Tensor:
        if index not in self._handed_out:
            stream = self._given(index)
            self._handed_out[index] = _tracked(stream) if self.has_expressions else stream
        return self._handed_out[index]

    def _given(self, index: MultiIndex) -> Tensor:
        stream = self._streams.get(index)
        if stream is None:
            raise RuntimeError(f"derivative {index} was not computed for this field")
        return stream

    def derivatives(
        self, ys: Tensor, xs: Tensor, column: int, indices: Sequence[MultiIndex]
    ) -> Tensor:
        """Derivatives ``[n, len(indices)]`` of a column of ``ys``."""
        if xs is not self._x:
            raise InputError(
                "expected derivatives by the inputs x as they came into the function, found "
                "dde.grad of another tensor; differentiate by x and choose the column with j"
            )
        columns = self._columns(ys)
        if columns is None:
            return torch.cat([self._of_expression(ys[:, column], index) for index in indices], 1)
        output, base = columns[column]
        wanted: list[Column] = [(output, tuple(sorted(base + index))) for index in indices]
        value = torch.cat([self._stream(index)[:, o : o + 1] for o, index in wanted], 1)
        self._remember(value, wanted)
        return value

    def _of_expression(self, values: Tensor, index: MultiIndex) -> Tensor:
        """Derivative ``[n, 1]`` of an expression ``[n]``, by the chain rule."""
        if not self.has_expressions:
            raise RuntimeError("an expression was differentiated that was not before")
        for direction in index:
            streams = dict(self._handed_out)
            partial = torch.autograd.grad(
                values.sum(), [self._x, *streams.values()], create_graph=True, allow_unused=True
            )
            parts = [] if partial[0] is None else [partial[0][:, direction]]
            for base, slope in zip(streams, partial[1:], strict=True):
                if slope is not None:
                    derivative = self._stream(tuple(sorted((*base, direction))))
                    parts.append((slope * derivative).sum(1))
            values = sum(parts, torch.zeros_like(values))
        return values[:, None]


def _tracked(tensor: Tensor) -> Tensor:
    """The same numbers as a tensor of its own, by which expressions can be differentiated."""
    own = tensor.view_as(tensor)
    return own if own.requires_grad else own.detach().requires_grad_()


class _Discovery(_Run):
    """A run on made-up numbers that finds out which derivatives a function needs."""

    def __init__(self, function: Function, x: Tensor, n_outputs: int) -> None:
        super().__init__(function, x, {}, {}, has_expressions=True)
        self._n_outputs = n_outputs
        self._generator = torch.Generator("cpu").manual_seed(0)
        self.differentiates = False

    @property
    def needed(self) -> set[MultiIndex]:
        """The derivatives that were asked for."""
        return set(self._handed_out)

    def _given(self, index: MultiIndex) -> Tensor:  # the same numbers on every device
        shape, dtype = (len(self._x), self._n_outputs), self._x.dtype
        drawn = torch.rand(shape, dtype=dtype, device="cpu", generator=self._generator)
        return (drawn + 0.5).to(self._x.device)

    def _of_expression(self, values: Tensor, index: MultiIndex) -> Tensor:
        self.differentiates = True
        return super()._of_expression(values, index)


def needs(function: Function, x: Tensor, n_outputs: int) -> tuple[set[MultiIndex], bool]:
    """Which derivatives of the outputs a function needs at points such as ``x``, ``[n, d]``.

    Returns:
        Their multi-indices, and whether the function differentiates expressions of them.

    Raises:
        InputError: it differentiates by something else than its argument x.
    """
    with torch.enable_grad():
        run = _Discovery(function, x, n_outputs)
        run.result()
    return run.needed, run.differentiates


def call(
    function: Function,
    x: Tensor,
    streams: Mapping[MultiIndex, Tensor],
    substitutes: Mapping[int, Tensor],
    has_expressions: bool = False,
) -> Any:
    """Result of ``function(x, y)`` where y and its derivatives are the streams ``[n, n_outputs]``.

    ``substitutes`` are tensors that take the place of others, by ``id`` of these.
    ``has_expressions``: whether it differentiates expressions, which takes a graph.
    """
    run = _Run(function, x, streams, substitutes, has_expressions)
    if not has_expressions or torch.is_grad_enabled():
        return run.result()
    with torch.enable_grad():
        result = run.result()
    parts = [part.detach() for part in (result if isinstance(result, (list, tuple)) else [result])]
    return parts if isinstance(result, (list, tuple)) else parts[0]
