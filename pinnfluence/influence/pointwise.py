"""Quantities must be functions of the field at one point, which can be differentiated."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pinnfluence.errors import InputError
from pinnfluence.field.field import Field, FieldFunction
from pinnfluence.loss.differentiators import jacobian
from pinnfluence.loss.differentiators.per_sample import leaves
from pinnfluence.loss.pinn import Pinn
from pinnfluence.problem.equation import Equation
from pinnfluence.runtime.warn_once import reason_of

PROBES = 16
"""Test points at which a function is tried, together and in halves."""

TOLERANCE = 1e-3
"""Difference from which on these disagree, relative to how far the values spread; derivatives in
float32 have few digits."""


def check_pointwise(pinn: Pinn, function: FieldFunction, x: np.ndarray, name: str) -> None:
    """Refuse a quantity whose gradients at single points are not what its author meant.

    Args:
        function: of a ``Field``, to be ``[n]``. x: test points ``[n, n_inputs]``.
        name: what messages call it.

    Raises:
        InputError: it gives no tensor ``[n]``, depends on other points than its own, such as
            ``f.u - f.u.mean()``, or cannot be differentiated by the parameters.
    """
    x = x[np.unique(np.linspace(0, len(x) - 1, PROBES).astype(int))]
    checked = Equation(_tensor_of(function, name))
    whole, half = _values(pinn, checked, x, name), len(x) // 2
    halves = [_values(pinn, checked, part, name) for part in (x[:half], x[half:]) if len(part)]
    if _differ(torch.cat(halves), whole):
        raise InputError(
            f"{name} depends on other points than its own, such as through a mean or a maximum; "
            "expected a function of the field at one point; weights= makes sums over points"
        )
    try:
        one = pinn.at(x[:1], [checked])
        with torch.enable_grad():
            value = one.residuals(leaves(pinn.params))["value"]
        if not value.requires_grad:  # as of detached outputs, whose scores would all be 0
            raise RuntimeError("it does not depend on them")
        jacobian(one)
    except RuntimeError as error:
        raise InputError(
            f"{name} cannot be differentiated by the network's parameters ({reason_of(error)}); "
            "expected PyTorch functions of its outputs and their derivatives"
        ) from None


def _tensor_of(function: FieldFunction, name: str) -> FieldFunction:
    """The function as the only value of an equation, which must be a tensor of floats."""

    def value(f: Field) -> dict[str, Tensor]:
        try:
            found = function(f)
        except (RuntimeError, IndexError) as error:  # shapes that do not fit, NumPy's functions
            raise InputError(
                f"{name} cannot be evaluated: {reason_of(error)}; it is called at some of the "
                "points at a time, expected PyTorch functions of the field; factors of points are "
                "weights="
            ) from None
        if not isinstance(found, Tensor) or not found.is_floating_point():
            kind = found.dtype if isinstance(found, Tensor) else type(found).__name__
            raise InputError(f"{name} gives {kind}, expected a tensor of floats [n] from the field")
        return {"value": found}

    return value


def _values(pinn: Pinn, equation: Equation, x: np.ndarray, name: str) -> Tensor:
    """Values of a function ``[n]``, one a point."""
    with torch.no_grad():
        found = pinn.at(x, [equation]).residuals(pinn.params)["value"]
    if found.shape != (len(x),):
        raise InputError(
            f"{name} has shape {tuple(found.shape)} at {len(x)} points, expected one value a "
            "point; weights= makes sums over points"
        )
    return found


def _differ(found: Tensor, expected: Tensor) -> bool:
    """Whether values differ by more than rounding, or are finite at other places."""
    finite = found.isfinite()
    if not torch.equal(finite, expected.isfinite()):
        return True
    found, expected = found[finite], expected[finite]
    if len(found) == 0:
        return False
    rounding = 32 * torch.finfo(expected.dtype).eps * expected.abs().max()
    limit = TOLERANCE * (expected - expected.mean()).abs().max() + rounding
    return bool((found - expected).abs().max() > limit)
