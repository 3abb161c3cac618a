"""Quantities whose errors are estimated: their values at points, and gradients of weighted sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pinnfluence.diagnosis.corrected import corrected, is_correctable
from pinnfluence.errors import InputError
from pinnfluence.field.field import FieldFunction
from pinnfluence.influence.pointwise import check_pointwise
from pinnfluence.influence.quantity import Quantity, as_field_function
from pinnfluence.loss.differentiators import jacobian
from pinnfluence.loss.pinn import Pinn
from pinnfluence.problem.equation import Equation
from pinnfluence.runtime.devices import float64_array
from pinnfluence.runtime.executor import BATCH_SIZE

Quantities = Mapping[str, FieldFunction]
"""Functions of the field by name, each to give ``[n]``."""


def quantities_of(
    pinn: Pinn, wanted: Sequence[str] | Mapping[str, Quantity] | None, x: np.ndarray
) -> dict[str, FieldFunction]:
    """What is asked for: outputs, derived quantities, derivatives, functions; by default outputs.

    Of a model that has no outputs of its own, by default its quantities.

    Args:
        wanted: names, for example ``("u", "speed", "u_x")``, or functions by name.
        x: points at which they are tried, ``[n, n_inputs]``.

    Raises:
        InputError: no such quantity, or see ``check_pointwise``.
    """
    if wanted is None:
        wanted = pinn.outputs or tuple(pinn.quantities)
    if not wanted:
        raise InputError(
            "expected quantities whose errors are asked for, found a model that names none: give "
            "quantities= of functions by name"
        )
    given = wanted if isinstance(wanted, Mapping) else {name: name for name in wanted}
    found: dict[str, FieldFunction] = {}
    for name, quantity in given.items():
        asked = as_field_function(pinn, quantity)
        function = asked if callable(asked) else _named(pinn, str(asked))
        try:
            check_pointwise(pinn, function, x, f"the quantity {name}")
        except AttributeError:
            known = ", ".join([*pinn.outputs, *pinn.quantities])
            raise InputError(
                f"no quantity {name!r}, expected one of {known}, a derivative of an output such as "
                f"u_{pinn.inputs[0]}, or a function of a field"
            ) from None
        found[name] = function
    return found


def _named(pinn: Pinn, name: str) -> FieldFunction:
    return pinn.quantities.get(name) or (lambda f: getattr(f, name))


def evaluate(pinn: Pinn, x: np.ndarray, quantities: Quantities) -> dict[str, np.ndarray]:
    """Values at points ``[n, n_inputs]``, float64 ``[n]`` by name."""
    return pinn.at(x, [as_equation(quantities)]).evaluate(BATCH_SIZE)


def changes(
    pinn: Pinn, d: np.ndarray, x: np.ndarray, quantities: Quantities
) -> dict[str, np.ndarray]:
    """By how much quantities of the fields corrected by a step d differ from the network's.

    ``f(u + grad u . d) - f(u)``; of functions that call the network themselves, ``grad f . d``.

    Args:
        d: ``[n_params]``. x: ``[n, n_inputs]``.

    Returns:
        ``[n]`` by name.
    """
    if is_correctable(pinn):
        after, before = (evaluate(p, x, quantities) for p in (corrected(pinn, d), pinn))
        return {name: after[name] - before[name] for name in quantities}
    parts = [
        {name: float64_array(rows) @ d for name, (_, rows) in jacobian(chunk).items()}
        for chunk in pinn.at(x, [as_equation(quantities)]).chunks(BATCH_SIZE)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in quantities}


def sum_gradients(
    pinn: Pinn, x: np.ndarray, quantities: Quantities, weights: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Gradients of weighted sums over points, ``sum_i weights_ij grad f(x_i)``, ``[n_params, k]``.

    Args:
        x: points ``[n, n_inputs]``. weights: by name, ``[n, k]``.
    """
    total = {n: np.zeros((pinn.n_params, weights[n].shape[1])) for n in quantities}
    starts = range(0, len(x), BATCH_SIZE)
    chunks = pinn.at(x, [as_equation(quantities)]).chunks(BATCH_SIZE)
    for start, chunk in zip(starts, chunks, strict=True):
        for name, (_, rows) in jacobian(chunk).items():
            total[name] += float64_array(rows).T @ weights[name][start : start + len(rows)]
    return total


def as_equation(quantities: Quantities) -> Equation:
    """The quantities as an equation that acts everywhere."""
    return Equation(lambda f: {name: function(f) for name, function in quantities.items()})
