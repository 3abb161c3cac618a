"""Methods that invert a damped curvature matrix, one a file; a new file is found by itself.

A file defines ``METHOD``; its name in a ``Recipe`` is that of the file, with ``-`` for ``_``.
"""

from importlib import import_module
from pkgutil import iter_modules

from pinnfluence.curvature.inverse.base import Inverse, InverseMethod, Solve
from pinnfluence.curvature.operator import Curvature

__all__ = ["METHODS", "WHOLE", "Inverse", "InverseMethod", "Solve", "method_of"]

WHOLE = "full"
"""The whole inverse, by the method that is the cheaper one for the matrix."""

METHODS: dict[str, type[InverseMethod]] = {
    module.name.replace("_", "-"): loaded.METHOD
    for module in iter_modules(__path__)
    if hasattr(loaded := import_module(f"{__name__}.{module.name}"), "METHOD")
}
"""All methods by name, in alphabetical order."""


def method_of(name: str, curvature: Curvature) -> type[InverseMethod]:
    """The method of that name; ``full`` takes the smaller of the two spaces."""
    if name != WHOLE:
        return METHODS[name]
    fewer_rows = curvature.has_rows and curvature.n_residuals < curvature.n_params
    return METHODS["residual-space" if fewer_rows else "dense"]
