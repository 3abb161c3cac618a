"""A PINN in plain PyTorch: modules, tensors of points, and residual functions."""

from __future__ import annotations

import itertools
import reprlib
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pinnfluence.errors import InputError, input_errors
from pinnfluence.field.field import Declared, Field, FieldFunction
from pinnfluence.loss.pinn import Pinn
from pinnfluence.loss.points import PointSet
from pinnfluence.models.own_network import ByAutograd, OwnNetwork, Unknowns, cast_copy
from pinnfluence.models.plain_checks import check_letters, check_modes, check_residuals
from pinnfluence.problem.equation import Equation, Group, nowhere_else
from pinnfluence.runtime.calculation import calculation
from pinnfluence.runtime.devices import as_array
from pinnfluence.runtime.warn_once import reason_of

Points = Tensor | np.ndarray | Sequence[Tensor | np.ndarray]
Residual = Callable[..., Tensor]
"""From the network and the points (and what comes along with them) to ``[n]`` or ``[n, 1]``."""

NUMBERS = "biuf"
"""Kinds of NumPy's dtypes that are real numbers."""

LETTERS = "xyzt" + "".join(c for c in string.ascii_letters if c not in "xyztuvwp")


@calculation()
def torch_model(
    network: nn.Module | Sequence[nn.Module],
    terms: Mapping[str, tuple[Any, ...]],
    parameters: Sequence[Tensor] | Tensor = (),
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

    Parameters with ``requires_grad`` are theta, the others constants. The term ``pde``, or
    terms ``pde_...``, make up the sum of that name; all others are conditions.

    Raises:
        InputError: terms that cannot be evaluated, of another shape, or whose values depend on
            other points than their own; dropout or batch normalisation in training mode.

    >>> model = pinnfluence.torch_model(network, {"pde": (x, residual), "left": (x0, left, 10.0)})
    ... # doctest: +SKIP
    >>> scores = pinnfluence.Influence(model, recipe="gauss-newton").scores(
    ...     test_x, lambda network, x: network(x)[:, 0])                # doctest: +SKIP
    >>> scores.term("pde")                                              # doctest: +SKIP
    """
    if not isinstance(terms, Mapping) or not terms:
        found = type(terms).__name__ if terms else "none"
        raise InputError(f"expected at least one loss term by its name, found {found}")
    for name, term in terms.items():
        if not (isinstance(term, (tuple, list)) and len(term) in (2, 3) and callable(term[1])):
            raise InputError(
                f"{name}: expected (points, residual) or (points, residual, weight), found "
                f"{reprlib.repr(term)}"
            )
    check_modes(_modules_of(network))
    parts = [Term((str(name),), *term) for name, term in terms.items()]
    return pinn_of(network, parts, parameters, dtype, inputs, quantities)


def pinn_of(
    network: nn.Module | Sequence[nn.Module],
    parts: Sequence[Term],
    parameters: Sequence[Tensor] | Tensor,
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
    modules = _modules_of(network)
    own = OwnNetwork(modules, Unknowns(_beside(modules, parameters)))
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"expected the dtype torch.float32 or torch.float64, found {dtype}")
    container = PlainModel(cast_copy(modules, dtype), own, network)
    width = max(part.coordinates.shape[1] for part in parts)
    letters = tuple(LETTERS[:width] if inputs is None else inputs)
    check_letters(letters, width)
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
        check_residuals(pinn)
    except InputError:
        raise
    except Exception as error:  # whatever a user's function raises
        raise InputError(
            f"the residuals cannot be evaluated at some of their points: {reason_of(error)}; "
            "expected functions of the network and of what stands with them in the term"
        ) from error
    return pinn


def _modules_of(network: Any) -> nn.ModuleList:
    modules = [network] if isinstance(network, nn.Module) else network
    is_list = isinstance(modules, (list, tuple))
    if not (is_list and all(isinstance(module, nn.Module) for module in modules)):
        raise InputError(
            f"expected a network that is a torch.nn.Module, or a list of some, found "
            f"{type(network).__name__}; give the module whose parameters were trained"
        )
    return nn.ModuleList(modules)


def _beside(modules: nn.Module, parameters: Any) -> list[Tensor]:
    """The parameters that are none of the modules' own."""
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if unfit := [p for p in given if not isinstance(p, Tensor)]:
        raise InputError(f"expected parameters that are tensors, found {reprlib.repr(unfit[0])}")
    own = set(map(id, modules.parameters()))
    return [p for p in given if id(p) not in own]


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
        self, names: tuple[str, ...], points: Points, residual: Residual, weight: Any = 1.0
    ) -> None:
        several = isinstance(points, (tuple, list))
        name = ", ".join(names)
        weights = as_array(weight)
        if weights.size != 1 or weights.dtype.kind not in NUMBERS:
            raise InputError(
                f"{name}: expected one number as its weight, found {weights.dtype} of shape "
                f"{weights.shape}; pass weights of single points along with these"
            )
        self.names, self.residual, self.weight = names, residual, float(weights.item())
        self.arrays = [as_array(part) for part in (points if several else [points])]  # type: ignore[arg-type]
        lengths = {array.shape[:1] for array in self.arrays}
        if len(lengths) != 1 or not min(lengths, default=()) or (0,) in lengths:
            raise InputError(
                f"{name}: expected points, and what comes along, of one length, found the shapes "
                f"{', '.join(str(array.shape) for array in self.arrays)}"
            )
        if unfit := [a.dtype for a in self.arrays if a.dtype.kind not in NUMBERS]:
            raise InputError(f"{name}: expected points that are real numbers, found {unfit[0]}")
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
                    "expected one value a point; give each column a term of its own (the mean over "
                    "k columns has weight / k on each)"
                )
            if result.dtype != f.points.dtype:
                raise InputError(
                    f"{', '.join(self.names)}: the residual is of {result.dtype} where points and "
                    f"parameters are of {f.points.dtype}; take out the cast, or read the model "
                    "with that dtype"
                )
            return list(result.reshape(n, len(self.names)).unbind(1))

        declared = Declared(self.names, frozenset(), values, in_threads=False, by_autograd=True)
        width = self.data.shape[1]
        is_pde = all(f"{name}_".startswith("pde_") for name in self.names)
        group: Group = "pde" if is_pde else "boundary"
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
