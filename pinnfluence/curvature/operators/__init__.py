"""The curvature matrices, one a file; a new file that defines ``OPERATOR`` is found by itself.

Its name on the command line and in a ``Recipe`` is that of the file, with ``-`` in the place of
``_``.
"""

from importlib import import_module
from pkgutil import iter_modules

from pinnfluence.curvature.operator import Curvature
from pinnfluence.curvature.operators.gauss_newton import GaussNewton
from pinnfluence.curvature.operators.hessian import Hessian

__all__ = ["OPERATORS", "Curvature", "GaussNewton", "Hessian"]

OPERATORS: dict[str, type[Curvature]] = {
    module.name.replace("_", "-"): import_module(f"{__name__}.{module.name}").OPERATOR
    for module in iter_modules(__path__)
}
"""All curvature matrices by name, in alphabetical order."""
