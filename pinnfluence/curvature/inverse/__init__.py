"""Methods that invert a damped curvature matrix, one a file; a new file is found by itself.

A file defines ``METHOD``; its name in a ``Recipe`` is that of the file, with ``-`` for ``_``.
"""

from importlib import import_module
from pkgutil import iter_modules

from pinnfluence.curvature.inverse.base import Inverse, InverseMethod, Solve, UnitCosts
from pinnfluence.curvature.operator import Curvature

__all__ = ["METHODS", "WHOLE", "Inverse", "InverseMethod", "Solve", "method_of"]

WHOLE = "full"
"""The whole inverse, by the method that is the cheapest one for the matrix."""

METHODS: dict[str, type[InverseMethod]] = {
    module.name.replace("_", "-"): loaded.METHOD
    for module in iter_modules(__path__)
    if hasattr(loaded := import_module(f"{__name__}.{module.name}"), "METHOD")
}
"""All methods by name, in alphabetical order."""


def method_of(name: str, curvature: Curvature, exact: bool = False) -> type[InverseMethod]:
    """The method of that name; ``full`` takes the one with the fewest operations.

    The numbers of parameters and residuals decide, whatever the machine is: ``randomised`` where
    both are above about 3,000, else the smaller of the spaces of ``dense`` and ``residual-space``.

    Args:
        exact: ``full`` takes none that has an error beside rounding.
    """
    if name != WHOLE:
        return METHODS[name]
    if not curvature.has_rows:
        return METHODS["dense"]
    names = ("dense", "residual-space") if exact else ("dense", "residual-space", "randomised")
    return min((METHODS[n] for n in names), key=lambda method: _operations(method, curvature))


def _operations(method: type[InverseMethod], curvature: Curvature) -> float:
    unit = UnitCosts(product=0.0, losses=0.0, operation=1.0, batch=1, sampled=0)
    return sum(method.cost(curvature, 0, unit).seconds.values())
