"""Functions written with ``dde.grad``, evaluated on a field: derivatives are looked up.

While a user's function of points x and outputs y runs, ``dde.grad.jacobian`` and
``dde.grad.hessian`` of y, of columns of y and of derivatives of y return what the field already
holds. Of any other expression e(x, y, y_x, ...) they return the tangent

    de/dx_j = d/ds e(x + s e_j, y + s y_j, y_x + s y_xj, ...)

found by running the function again up to that expression under ``torch.func.jvp``: slower, but
like the look-up plain forward arithmetic, so that residuals stay a function of the parameters that
can be differentiated, vmapped and compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pinnfluence.errors import InputError
from pinnfluence.field.forward_mode import jvp
from pinnfluence.field.network import MultiIndex
from pinnfluence.models.deepxde.grad import answering

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


@dataclass(eq=False)
class Plan:
    """What the derivatives of expressions need, in the order in which they are asked for.

    needs: derivatives of the outputs, of which the field must hold all.
    queries: for each expression, numbers of the earlier ones on which it depends.
    """

    needs: set[MultiIndex] = field(default_factory=set)
    queries: list[set[int]] = field(default_factory=list)


class _Reached(BaseException):
    """Ends a run at the expression that is to be differentiated."""

    def __init__(self, expression: Tensor) -> None:
        super().__init__("reached")
        self.expression = expression


class Substitute(TorchFunctionMode):
    """Tensors that the user's functions hold, by identity, replaced by others."""

    def __init__(self, substitutes: Mapping[int, Tensor]) -> None:
        super().__init__()
        self._substitutes = substitutes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._substitutes:
            args, kwargs = self._replaced(args), self._replaced(kwargs)
        return func(*args, **(kwargs or {}))

    def _replaced(self, found: Any) -> Any:
        if isinstance(found, Tensor):
            return self._substitutes.get(id(found), found)
        if type(found) in (tuple, list):
            return type(found)(self._replaced(item) for item in found)
        if type(found) is dict:
            return {key: self._replaced(item) for key, item in found.items()}
        return found


class _Run(Substitute):
    """One evaluation of a user's function, in which ``dde.grad`` is answered."""

    def __init__(
        self,
        function: Function,
        x: Tensor,
        streams: Mapping[MultiIndex, Tensor],
        plan: Plan,
        substitutes: Mapping[int, Tensor],
        stop: int | None = None,
    ) -> None:
        super().__init__(substitutes)
        self._function, self._x, self._streams, self._plan = function, x, streams, plan
        self._stop, self._n_queries = stop, 0
        self._known: dict[int, tuple[Tensor, list[Column]]] = {}

    def result(self) -> Any:
        """What the function returns."""
        y = self._stream(())
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
        found = self._known.get(id(tensor))
        return None if found is None else found[1]

    def _stream(self, index: MultiIndex) -> Tensor:
        found = self._streams.get(index)
        if found is None:
            if self._stop is None:
                raise RuntimeError(f"derivative {index} was not computed for this field")
            # The expression that this run is for does not depend on it.
            return torch.zeros_like(self._streams[()])
        return found

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
            return self._of_expression(ys, column, indices)
        output, base = columns[column]
        wanted: list[Column] = [(output, tuple(sorted(base + index))) for index in indices]
        value = torch.cat([self._stream(index)[:, o : o + 1] for o, index in wanted], 1)
        self._remember(value, wanted)
        return value

    def _of_expression(self, ys: Tensor, column: int, indices: Sequence[MultiIndex]) -> Tensor:
        number, stop = self._n_queries, self._stop
        self._n_queries += 1
        if number == stop:
            raise _Reached(ys[:, column : column + 1])
        if stop is not None and number not in self._plan.queries[stop]:
            return self._x.new_zeros(len(self._x), len(indices))
        return torch.cat([self._tangent(number, index) for index in indices], 1)

    def _tangent(self, number: int, index: MultiIndex) -> Tensor:
        return _tangent(self._expression(number), self._x, dict(self._streams), index)

    def _expression(self, number: int) -> Callable[[Tensor, Mapping[MultiIndex, Tensor]], Tensor]:
        def expression(x: Tensor, streams: Mapping[MultiIndex, Tensor]) -> Tensor:
            run = _Run(self._function, x, streams, self._plan, self._substitutes, number)
            try:
                run.result()
            except _Reached as reached:
                return reached.expression
            raise InputError("the equations ask for other derivatives each time they are called")

        return expression


def _tangent(
    expression: Callable[[Tensor, Mapping[MultiIndex, Tensor]], Tensor],
    x: Tensor,
    streams: dict[MultiIndex, Tensor],
    index: MultiIndex,
) -> Tensor:
    """Derivative of a function of the points and of the field by inputs of the given numbers."""
    if not index:
        return expression(x, streams)
    *others, direction = index
    unit = torch.zeros_like(x)
    unit[:, direction] = 1
    onward = {i: tuple(sorted((*i, direction))) for i in streams}
    carried = [i for i in streams if onward[i] in streams]

    def along(x: Tensor, *values: Tensor) -> Tensor:
        return _tangent(expression, x, dict(zip(carried, values, strict=True)), tuple(others))

    primals = (x, *(streams[i] for i in carried))
    tangents = (unit, *(streams[onward[i]] for i in carried))
    return jvp(along, primals, tangents)[1]


class _Discovery(_Run):
    """A run on made-up numbers that finds out which derivatives a function needs."""

    def __init__(self, function: Function, x: Tensor, n_outputs: int) -> None:
        super().__init__(function, x, {}, Plan(), {})
        self._leaves: dict[MultiIndex, Tensor] = {}
        self._results: list[Tensor] = []
        self._base: list[set[MultiIndex]] = []
        self._n_outputs = n_outputs
        self._generator = torch.Generator("cpu").manual_seed(0)

    def plan(self) -> Plan:
        """The plan of the function, found by calling it once."""
        self.result()
        self._plan.needs |= self._leaves.keys()
        return self._plan

    def _stream(self, index: MultiIndex) -> Tensor:
        if index not in self._leaves:
            self._leaves[index] = (self._made_up(self._n_outputs) + 0.5).requires_grad_()
        return self._leaves[index]

    def _of_expression(self, ys: Tensor, column: int, indices: Sequence[MultiIndex]) -> Tensor:
        leaves, results = list(self._leaves), self._results
        total = ys[:, column].sum()
        tensors = [*self._leaves.values(), *results]
        found: Sequence[Tensor | None] = [None] * len(tensors)
        if total.requires_grad:
            found = torch.autograd.grad(total, tensors, retain_graph=True, allow_unused=True)
        reached = [gradient is not None for gradient in found]
        base = {index for index, is_reached in zip(leaves, reached, strict=False) if is_reached}
        earlier = {n for n in range(len(results)) if reached[len(leaves) + n]}
        for number in earlier:
            base |= self._base[number]
        parts = {part for i in indices for n in range(len(i) + 1) for part in combinations(i, n)}
        needs = {tuple(sorted(index + part)) for index in base | {()} for part in parts}
        self._base.append(needs)
        self._plan.queries.append(earlier)
        self._plan.needs |= needs
        self._results.append(self._made_up(len(indices)).requires_grad_())
        return self._results[-1]

    def _made_up(self, n_columns: int) -> Tensor:
        """Numbers ``[n, n_columns]`` that are the same on every device."""
        shape, dtype = (len(self._x), n_columns), self._x.dtype
        drawn = torch.rand(shape, dtype=dtype, device="cpu", generator=self._generator)
        return drawn.to(self._x.device)


def plan(function: Function, x: Tensor, n_outputs: int) -> Plan:
    """Which derivatives of the outputs a function needs at points such as ``x``, ``[n, d]``.

    Raises:
        InputError: it differentiates by something else than its argument x.
    """
    with torch.enable_grad():
        return _Discovery(function, x, n_outputs).plan()


def call(
    function: Function,
    x: Tensor,
    streams: Mapping[MultiIndex, Tensor],
    plan: Plan,
    substitutes: Mapping[int, Tensor],
) -> Any:
    """Result of ``function(x, y)`` where y and its derivatives are the streams ``[n, n_outputs]``.

    ``substitutes`` are tensors that take the place of others, by ``id`` of these.
    """
    return _Run(function, x, streams, plan, substitutes).result()
