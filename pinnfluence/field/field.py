"""The field of a network: its value and input derivatives by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pinnfluence.field import module_call
from pinnfluence.field.forward_mode import derivative
from pinnfluence.field.network import MLP, MultiIndex, Streams, Tape, closure

FieldFunction = Callable[["Field"], Any]

RESERVED = frozenset(("data", "derivative", "image", "params", "points"))
"""Names of a field's own attributes, which no input or output can have."""


class Field:
    """The outputs of a network and their derivatives, as tensors ``[n]`` by name.

    With inputs ``("x", "y")`` and outputs ``("u", "v", "p")``, ``f.x`` is an input, ``f.u`` an
    output, ``f.u_x`` = du/dx, ``f.u_xy`` = d2u/dxdy. ``f[rows]`` is the field at some points.
    By number: ``f.points`` are all inputs ``[n, n_inputs]``, ``f.derivative((0, 1))`` is d2/dxdy of
    all outputs, ``[n, n_outputs]``.

    In the residuals of an equation also: ``f.data`` are its data at these points, ``[n, n_data]``,
    ``f.image`` is the field at their images, ``f.params`` are the parameters by name.

    Raises:
        AttributeError: a name that is neither, or a derivative that was not computed.
    """

    data: Tensor
    image: Field

    def __init__(
        self,
        inputs: Sequence[str],
        outputs: Sequence[str],
        x: Tensor,
        streams: Streams,
        rows: Tensor | slice | None = None,
        params: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self._x, self._streams, self._rows = x, streams, rows
        self.params = params or {}

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._inputs:
            return self._select(self._x, self._inputs.index(name))
        if name in ("data", "image"):
            raise AttributeError(f"this field has no {name}: its equation has none")
        output, index = parse(name, self._inputs, self._outputs)
        if index not in self._streams:
            raise AttributeError(f"derivative {name!r} was not computed for this field")
        stream = self._streams[index]
        if stream is None:
            return torch.zeros_like(self._select(self._x, 0))
        return self._select(stream.expand(len(self._x), -1), output)

    @property
    def points(self) -> Tensor:
        """The points, ``[n, n_inputs]``."""
        return self._x if self._rows is None else self._x[self._rows]

    def derivative(self, index: MultiIndex) -> Tensor:
        """Derivative of all outputs by inputs of the given numbers, ``[n, n_outputs]``."""
        if index not in self._streams:
            raise AttributeError(f"derivative {index} was not computed for this field")
        stream = self._streams[index]
        if stream is None:
            return self.points.new_zeros(len(self.points), len(self._outputs))
        whole = stream.expand(len(self._x), -1)
        return whole if self._rows is None else whole[self._rows]

    def __getitem__(self, rows: Tensor | slice) -> Field:
        if self._rows is not None:
            raise TypeError("this field is a selection of points already")
        return Field(self._inputs, self._outputs, self._x, self._streams, rows, self.params)

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
            f"no field {name!r}; inputs are {', '.join(inputs)}, outputs "
            f"{', '.join(outputs) or 'none (take a function of the network and x)'}, "
            "derivatives an output, an underscore and input letters"
        )
    return list(outputs).index(output), tuple(sorted(inputs.index(letter) for letter in letters))


@dataclass(frozen=True)
class Declared:
    """A function of a field that says beforehand what it gives and which derivatives it uses.

    ``values`` gives a list of tensors ``[n]``, one for each of the ``names``. Others are called
    once to find that out, which those that need ``data``, images or real points cannot be.

    in_threads: whether several threads may call it at once, which forward mode does not allow.
    by_autograd: whether it calls autograd or the network itself, so that its derivatives by the
    parameters must be taken in reverse mode.
    """

    names: tuple[str, ...]
    derivatives: frozenset[MultiIndex]
    values: Callable[[Field], Sequence[Tensor]]
    in_threads: bool = True
    by_autograd: bool = False

    def __call__(self, f: Field) -> dict[str, Tensor]:
        return dict(zip(self.names, self.values(f), strict=True))


class _Recorder(Field):
    """A field of arbitrary numbers that remembers which derivatives a function reads.

    Its image is itself: derivatives that are read at an image are needed of the network as well.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        outputs: Sequence[str],
        x: Tensor,
        data: Tensor | None = None,
        has_image: bool = False,
    ) -> None:
        super().__init__(inputs, outputs, x, {})
        self._seen: set[MultiIndex] = set()
        if data is not None:
            self.data = data
        if has_image:
            self.image = self

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._inputs or name in ("data", "image"):
            return super().__getattr__(name)
        _, index = parse(name, self._inputs, self._outputs)
        self._seen.add(index)
        return torch.ones_like(self._x[:, 0])

    def derivative(self, index: MultiIndex) -> Tensor:
        self._seen.add(index)
        return self._x.new_ones(1, len(self._outputs))


def derivatives_used(
    functions: Iterable[FieldFunction],
    inputs: Sequence[str],
    outputs: Sequence[str],
    x: Tensor,
    data: Tensor | None = None,
    has_image: bool = False,
) -> list[MultiIndex]:
    """Multi-indices that functions of a field ask for, found by calling them once.

    Args:
        functions: of a field; a ``Declared`` one is asked and not called.
        inputs, outputs: names.
        x: points ``[n, n_inputs]``, of which the first is taken.
        data: what ``f.data`` is in that call, ``[1, n_data]``. has_image: whether there is an
            ``f.image``.
    """
    recorder = _Recorder(inputs, outputs, x[:1], data, has_image)
    for function in functions:
        if isinstance(function, Declared):
            recorder._seen |= function.derivatives
        else:
            function(recorder)
    return closure(recorder._seen) if recorder._seen else []


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
    Both are plain functions of ``params``: they can be differentiated, vmapped and compiled. A
    module with a true attribute ``by_autograd`` is evaluated by nested backward passes, which can
    be differentiated by further ones alone.
    For the ``tape`` see ``MLP.taylor``; other modules have none.
    """
    wanted = list(wanted)
    if isinstance(network, MLP):
        streams = network.taylor(params, x, wanted, tape)
    elif not wanted:  # functions that call the network themselves, with arguments of their own
        streams = {}
    elif getattr(network, "by_autograd", False):
        streams = nested_backward(network, params, x, wanted)
    else:
        streams = nested_jvp(network, params, x, wanted)
    return Field(inputs, outputs, x, streams, params=params)


def nested_jvp(
    network: nn.Module, params: Mapping[str, Tensor], x: Tensor, wanted: Iterable[MultiIndex]
) -> Streams:
    """Input derivatives of any module by forward over forward differentiation, one jvp an order."""

    def call(points: Tensor) -> Tensor:
        outputs: Tensor = module_call.call(network, params, points)
        return outputs

    return {index: derivative(call, x, index) for index in closure(wanted)}


def nested_backward(
    network: nn.Module, params: Mapping[str, Tensor], x: Tensor, wanted: Iterable[MultiIndex]
) -> Streams:
    """Input derivatives of any module by one backward pass an output and order."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        streams: Streams = {(): module_call.call(network, params, x)}
        for index in closure(wanted)[1:]:
            lower = streams[index[:-1]]
            assert lower is not None
            columns = []
            for column in lower.unbind(1):
                found = (
                    torch.autograd.grad(column.sum(), x, create_graph=True, allow_unused=True)[0]
                    if column.requires_grad
                    else None
                )
                columns.append(x.new_zeros(len(x)) if found is None else found[:, index[-1]])
            streams[index] = torch.stack(columns, 1)
    return streams
