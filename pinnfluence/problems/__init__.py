"""The problems, one a file; a new file that defines ``PROBLEM`` is found by itself."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from pinnfluence.errors import InputError

if TYPE_CHECKING:
    from pinnfluence.problem.problem import Problem

DEFAULT = "cylinder_flow"


def variant_of(given: Mapping[str, Any]) -> str | None:
    """The flag ``--variant``, or ``--broken``, which is short for one; None: the problem's first.

    Raises:
        InputError: both, of which one is another.
    """
    if given.get("broken") and given["variant"] not in (None, "broken"):
        raise InputError(f"--broken contradicts --variant {given['variant']}; give one of them")
    return "broken" if given.get("broken") else given["variant"]


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
