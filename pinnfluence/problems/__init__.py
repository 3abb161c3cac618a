"""The problems, one a file; a new file that defines ``PROBLEM`` is found by itself."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pinnfluence.problem.problem import Problem

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
