"""The phases of training, one a file; a new file that defines ``OPTIMIZER`` is found by itself.

A phase bears the name of its file: in ``Schedule.iterations``, in its flag
``--n_iterations_<name>`` (Adam's is the published ``--n_iterations``) and in its checkpoint
``<name>-<step>.pt``.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pinnfluence.training.optimizer import Optimizer


def names() -> list[str]:
    """Names of all phases, in alphabetical order; imports none of them."""
    return sorted(module.name for module in iter_modules(__path__))


def flag(name: str) -> str:
    """The setting that says how many iterations a phase has at most."""
    return "n_iterations" if name == "adam" else f"n_iterations_{name}"


@cache
def registered() -> dict[str, type[Optimizer]]:
    """All phases by name, in the order in which they are run."""
    found = {name: import_module(f"{__name__}.{name}").OPTIMIZER for name in names()}
    return dict(sorted(found.items(), key=lambda item: item[1].order))
