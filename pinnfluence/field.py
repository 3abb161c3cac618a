"""The field of a network: its value and input derivatives by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pinnfluence.network import MLP, MultiIndex, Streams, Tape, closure

FieldFunction = Callable[["Field"], Any]


class Field:
    """The outputs of a network and their derivatives, as tensors ``[n]`` by name.

    With inputs ``("x", "y")`` and outputs ``("u", "v", "p")``, ``f.x`` is an input, ``f.u`` an
    output, ``f.u_x`` = du/dx, ``f.u_xy`` = d2u/dxdy. ``f[rows]`` is the field at some points.

    Raises:
        AttributeError: a name that is neither, or a derivative that was not computed.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        outputs: Sequence[str],
        x: Tensor,
        streams: Streams,
        rows: Tensor | slice | None = None,
    ) -> None:
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self._x, self._streams, self._rows = x, streams, rows

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._inputs:
            return self._select(self._x, self._inputs.index(name))
        output, index = parse(name, self._inputs, self._outputs)
        if index not in self._streams:
            raise AttributeError(f"derivative {name!r} was not computed for this field")
        stream = self._streams[index]
        if stream is None:
            return torch.zeros_like(self._select(self._x, 0))
        return self._select(stream.expand(len(self._x), -1), output)

    def __getitem__(self, rows: Tensor | slice) -> Field:
        if self._rows is not None:
            raise TypeError("this field is a selection of points already")
        return Field(self._inputs, self._outputs, self._x, self._streams, rows)

    def _select(self, columns: Tensor, number: int) -> Tensor:
        column = columns[:, number]
        return column if self._rows is None else column[self._rows]


def parse(name: str, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[int, MultiIndex]:
    """Output number and multi-index of a name such as ``u_xy``.

    Raises:
        AttributeError: the name is not an output with an optional derivative.
    """
    output, _, letters = name.partition("_")
    if output not in outputs or not set(letters) <= set(inputs) or name.endswith("_"):
        raise AttributeError(
            f"no field {name!r}; inputs are {', '.join(inputs)}, outputs {', '.join(outputs)}, "
            "derivatives an output, an underscore and input letters"
        )
    return list(outputs).index(output), tuple(sorted(inputs.index(letter) for letter in letters))


class _Recorder(Field):
    """A field of arbitrary numbers that remembers which derivatives were asked of it."""

    def __init__(self, inputs: Sequence[str], outputs: Sequence[str], x: Tensor) -> None:
        super().__init__(inputs, outputs, x, {})
        self._seen: set[MultiIndex] = set()

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._inputs:
            return super().__getattr__(name)
        _, index = parse(name, self._inputs, self._outputs)
        self._seen.add(index)
        return torch.ones_like(self._x[:, 0])


def derivatives_used(
    functions: Iterable[FieldFunction], inputs: Sequence[str], outputs: Sequence[str], x: Tensor
) -> list[MultiIndex]:
    """Multi-indices that functions of a field ask for, found by calling them once."""
    recorder = _Recorder(inputs, outputs, x[:1])
    for function in functions:
        function(recorder)
    return closure(recorder._seen)


def evaluate(
    network: nn.Module,
    params: Mapping[str, Tensor],
    x: Tensor,
    inputs: Sequence[str],
    outputs: Sequence[str],
    wanted: Iterable[MultiIndex],
    tape: Tape | None = None,
) -> Field:
    """Field of a network with parameters ``params`` at the points ``x`` of shape ``[n, n_inputs]``.

    An ``MLP`` is evaluated by Taylor-mode streams, any other module by nested ``torch.func.jvp``.
    Both are plain functions of ``params``: they can be differentiated, vmapped and compiled.
    For the ``tape`` see ``MLP.taylor``; other modules have none.
    """
    if isinstance(network, MLP):
        return Field(inputs, outputs, x, network.taylor(params, x, wanted, tape))
    return Field(inputs, outputs, x, nested_jvp(network, params, x, wanted))


def nested_jvp(
    network: nn.Module, params: Mapping[str, Tensor], x: Tensor, wanted: Iterable[MultiIndex]
) -> Streams:
    """Input derivatives of any module by forward over forward differentiation, one jvp an order."""

    def call(points: Tensor) -> Tensor:
        return torch.func.functional_call(network, dict(params), (points,))

    return {index: _derivative(call, x, index) for index in closure(wanted)}


def _derivative(call: Callable[[Tensor], Tensor], x: Tensor, index: MultiIndex) -> Tensor:
    if not index:
        return call(x)
    direction = torch.zeros_like(x)
    direction[:, index[-1]] = 1
    return torch.func.jvp(lambda points: _derivative(call, points, index[:-1]), (x,), (direction,))[
        1
    ]
