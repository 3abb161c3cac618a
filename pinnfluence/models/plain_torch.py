"""A PINN in plain PyTorch: modules, tensors of points, and residual functions."""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pinnfluence.errors import InputError, input_errors
from pinnfluence.field.field import Declared, Field, FieldFunction
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Pinn
from pinnfluence.loss.points import PointSet
from pinnfluence.models.own_network import ByAutograd, OwnNetwork, Unknowns, cast_copy
from pinnfluence.problem.equation import Equation, Group, nowhere_else
from pinnfluence.runtime.devices import as_array
from pinnfluence.runtime.warn_once import reason_of

Points = Tensor | np.ndarray | Sequence[Tensor | np.ndarray]
Residual = Callable[..., Tensor]
"""From the network and the points (and what comes along with them) to ``[n]`` or ``[n, 1]``."""

LETTERS = "xyzt" + "".join(c for c in string.ascii_letters if c not in "xyztuvwp")
TOLERANCE = 1e-6


def torch_model(
    network: nn.Module | Sequence[nn.Module],
    terms: Mapping[str, tuple[Any, ...]],
    parameters: Sequence[Tensor] = (),
    dtype: torch.dtype = torch.float64,
    inputs: Sequence[str] | None = None,
    quantities: Mapping[str, Residual] | None = None,
) -> Pinn:
    """A trained PINN in plain PyTorch, as ``Influence`` takes it.

    Its loss is ``L = sum_k weight_k mean_i r_k(z_i)^2``, with points for each term. Nothing has to
    be rewritten: a residual function may call the network as often as it likes and take derivatives
    by ``torch.autograd.grad(..., create_graph=True)`` or ``torch.func``. All is differentiated by
    batched backward passes through it.

    Args:
        network: a module, or several; residual functions are given what is given here.
        terms: by name, ``(points, residual)`` or ``(points, residual, weight)``, by default of
            weight 1. Points are a tensor ``[n, ...]``, such as ``[n, d]`` or pairs ``[n, 2, d]``;
            or several, such as points and measurements, one argument each.
            ``residual(network, *points)`` gives ``[n]`` or ``[n, 1]``; its i-th value must depend
            on the i-th point alone.
        parameters: further tensors that were trained, such as the unknowns of an inverse problem,
            which the residual functions hold.
        dtype: in which everything is computed. The model is left as it is.
        inputs: a letter a coordinate; default x, y, z, t.
        quantities: what is predicted, by name: ``quantity(network, x)`` gives ``[n]`` or
            ``[n, 1]``. Several networks have no outputs of their own, so name theirs here.

    Parameters with ``requires_grad`` are theta, the others constants. A term of the name ``pde``
    makes up the sum of that name; all others are conditions.

    Raises:
        InputError: terms that cannot be evaluated, of another shape, or whose values depend on
            other points than their own.

    >>> model = pinnfluence.torch_model(network, {"pde": (x, residual), "left": (x0, left, 10.0)})
    ... # doctest: +SKIP
    >>> scores = pinnfluence.Influence(model, recipe="gauss-newton").scores(
    ...     test_x, lambda network, x: network(x)[:, 0])                # doctest: +SKIP
    >>> scores.term("pde")                                              # doctest: +SKIP
    """
    if not terms:
        raise InputError("expected at least one loss term, found none")
    parts = [Term((name,), *term) for name, term in terms.items()]
    return pinn_of(network, parts, parameters, dtype, inputs, quantities)


def pinn_of(
    network: nn.Module | Sequence[nn.Module],
    parts: Sequence[Term],
    parameters: Sequence[Tensor],
    dtype: torch.dtype,
    inputs: Sequence[str] | None,
    quantities: Mapping[str, Residual] | None,
    outputs: Sequence[str] | None = None,
    weight_decay: float = 0.0,
) -> Pinn:
    """What ``torch_model`` returns, of terms that may have several residuals a point.

    Args:
        outputs: names of the network's outputs; default: u, v, w. weight_decay: of the optimiser.
            For the others see ``torch_model``.

    Raises:
        InputError: see ``torch_model``.
    """
    modules = nn.ModuleList([network] if isinstance(network, nn.Module) else list(network))
    own = OwnNetwork(modules, Unknowns(parameters))
    container = PlainModel(cast_copy(modules, dtype), own, network)
    width = max(part.coordinates.shape[1] for part in parts)
    letters = tuple(LETTERS[:width] if inputs is None else inputs)
    if len(letters) != width or any(len(letter) != 1 for letter in letters):
        raise InputError(f"expected {width} inputs of one letter, found {', '.join(letters)}")
    with input_errors("terms"):
        pinn = Pinn(
            container,
            letters,
            container.output_names(parts, dtype) if outputs is None else tuple(outputs),
            tuple(part.equation(container) for part in parts),
            {name: container.quantity(f) for name, f in (quantities or {}).items()},
            loss_weights={name: part.weight for part in parts for name in part.names},
            training=_training_points(parts, width),
            theta=_theta(container, own),
            weight_decay=weight_decay,
        )
    try:
        _check(pinn)
    except (TypeError, RuntimeError, IndexError, AttributeError) as error:  # of a user's function
        raise InputError(
            f"the residuals cannot be evaluated at some of their points: {reason_of(error)}; "
            "expected functions of the network and of what stands with them in the term"
        ) from error
    return pinn


class PlainModel(ByAutograd):
    """Modules in plain PyTorch and the parameters beside them, evaluated as the user's own."""

    def __init__(self, modules: nn.Module, own: OwnNetwork, given: Any) -> None:
        super().__init__(modules, own)
        self._given = _Shared(given)

    def call(self, function: Residual, f: Field, *arguments: Tensor) -> Tensor:
        """``function(network, *arguments)`` with the field's parameters in the user's modules."""
        given = self._given.value
        with torch.enable_grad():
            params = f.params or dict(self.named_parameters())  # a field that is tried has none
            result: Tensor = self._own(params, lambda modules: function(given, *arguments))
        return result

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[n, n_outputs]`` of the first module at points ``[n, n_inputs]``."""
        outputs = super().forward(x)
        return outputs if outputs.ndim == 2 else outputs[:, None]

    def _outputs(self, modules: Any, x: Tensor) -> Tensor:
        first: Tensor = modules[0](x)
        return first

    def quantity(self, function: Residual) -> FieldFunction:
        """A function of the network and of points as one of the field."""
        return lambda f: self.call(function, f, f.points).reshape(-1)

    def output_names(self, parts: Sequence[Term], dtype: torch.dtype) -> tuple[str, ...]:
        """Names of the outputs of a single module that takes points ``[n, d]``; else none."""
        some = parts[0].coordinates[:2]
        try:
            if not isinstance(self._given.value, nn.Module):
                return ()
            n = self(torch.as_tensor(some, dtype=dtype)).shape[1]
        except Exception:  # it takes something else than points
            return ()
        return tuple("uvw"[:n]) if n <= 3 else tuple(f"u{k + 1}" for k in range(n))


class _Shared:
    """The user's own modules, which copies of a model share: residual functions hold them."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: Any) -> _Shared:
        return self


class Term:
    """Loss terms of the same points: these as arrays, their residual function, their weight.

    The residual function gives a column ``[n, n_names]`` for each name.
    """

    def __init__(
        self, names: tuple[str, ...], points: Points, residual: Residual, weight: float = 1.0
    ) -> None:
        several = isinstance(points, (tuple, list))
        self.names, self.residual, self.weight = names, residual, float(weight)
        name = ", ".join(names)
        self.arrays = [as_array(part) for part in (points if several else [points])]  # type: ignore[arg-type]
        lengths = {len(array) for array in self.arrays}
        if len(lengths) != 1 or 0 in lengths:
            raise InputError(
                f"{name}: expected points, and what comes along, of one length, found lengths "
                f"{[len(array) for array in self.arrays]}"
            )
        if not all(np.isfinite(array).all() for array in self.arrays):
            raise InputError(f"{name}: points are NaN or infinite")
        self.data = np.hstack([a.reshape(len(a), -1).astype(float) for a in self.arrays])
        first = self.arrays[0]
        if first.ndim > 2:  # of pairs, the first point
            first = first.reshape(len(first), -1)[:, : first.shape[-1]]
        self.coordinates = first.reshape(len(first), -1).astype(float)

    def equation(self, model: PlainModel) -> Equation:
        """The terms as an equation at their own points alone."""

        def values(f: Field) -> list[Tensor]:
            result, n = model.call(self.residual, f, *self._arguments(f.data)), len(f.data)
            if not isinstance(result, Tensor) or result.numel() != n * len(self.names):
                found = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
                raise InputError(
                    f"{', '.join(self.names)}: the residual has shape {found} at {n} points, "
                    "expected one value a point"
                )
            return list(result.reshape(n, len(self.names)).unbind(1))

        declared = Declared(self.names, frozenset(), values, in_threads=False, by_autograd=True)
        width = self.data.shape[1]
        group: Group = "pde" if self.names == ("pde",) else "boundary"
        return Equation(declared, nowhere_else, lambda x: np.zeros((len(x), width)), group=group)

    def _arguments(self, data: Tensor) -> list[Tensor]:
        """The term's points, and what comes along, from the columns of its data."""
        sizes = [int(np.prod(array.shape[1:])) for array in self.arrays]
        parts = data.detach().split(sizes, dim=1)
        return [
            part.reshape(len(data), *array.shape[1:]).clone().requires_grad_()
            for part, array in zip(parts, self.arrays, strict=True)
        ]


def _training_points(parts: Sequence[Term], width: int) -> PointSet:
    """All points, term by term, the missing coordinates of shorter ones 0."""
    blocks = [np.pad(p.coordinates, ((0, 0), (0, width - p.coordinates.shape[1]))) for p in parts]
    ends = np.cumsum([0, *map(len, blocks)])
    rows = tuple(np.arange(a, b) for a, b in itertools.pairwise(ends))
    data = tuple(part.data for part in parts)
    return PointSet(np.concatenate(blocks), rows, data, (None,) * len(parts))


def _theta(model: PlainModel, own: OwnNetwork) -> tuple[str, ...] | None:
    trained = {f"net.{n}" for n, p in own.net.named_parameters() if p.requires_grad}
    trained |= {f"unknowns.{n}" for n, p in enumerate(own.unknowns) if p.requires_grad}
    names = tuple(n for n, _ in model.named_parameters() if n in trained)
    if not names:
        raise InputError("no parameter requires a gradient; expected trained parameters")
    return None if len(names) == len(list(model.parameters())) else names


def _check(pinn: Pinn) -> None:
    """Refuse residuals that depend on other points than their own."""
    loss = Loss.of_training(pinn.at(pinn.training_points))
    for number, terms in enumerate(pinn.names):
        one = loss.only(number)
        together, in_halves = one.term_sums(len(one)), one.term_sums(max(1, len(one) // 2))
        for term in terms:
            whole, halves = together[term], in_halves[term]
            if not np.isfinite(whole):
                raise InputError(
                    f"loss term {term} is {whole:g}: the network or its loss overflows"
                )
            if abs(whole - halves) > TOLERANCE * max(abs(whole), abs(halves)):
                raise InputError(
                    f"{term}: the residuals depend on other points than their own: {whole:.6g} at "
                    f"all points together, {halves:.6g} in halves; expected a function of one"
                )
