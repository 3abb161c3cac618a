"""The problems, one a file; a new file that defines ``PROBLEM`` is found by itself."""

from importlib import import_module
from pkgutil import iter_modules

from torch import nn

from pinnfluence.problem import Problem
from pinnfluence.terms import Pinn

DEFAULT = "cylinder_flow"


def names() -> list[str]:
    """Names of all problems, in alphabetical order."""
    return sorted(module.name for module in iter_modules(__path__))


def load(name: str) -> Problem:
    """The problem of that name.

    Raises:
        ValueError: no such problem.
    """
    if name not in names():
        raise ValueError(f"unknown problem {name!r}, expected one of {', '.join(names())}")
    problem: Problem = import_module(f"{__name__}.{name}").PROBLEM
    return problem


def pinn_of(problem: Problem, conditions: str, network: nn.Module) -> Pinn:
    """A problem under a set of conditions, with a network.

    Raises:
        ValueError: no such conditions.
    """
    return Pinn(
        network,
        problem.inputs,
        problem.outputs,
        problem.equations(conditions),
        problem.quantities,
        problem.loss_weights,
    )
