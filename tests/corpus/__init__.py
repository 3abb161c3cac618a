"""Models in the style of DeepXDE's users, tiny and trained for a few steps in float64, by name.

One file is one family; each model is a function that gives a compiled and trained ``dde.Model``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from . import (
    elliptic,
    evolution,
    inverse,
    networks,
    ordinary,
    own_functions,
    own_training,
    regression,
)
from .common import dde, default_float

FAMILIES = (
    *(elliptic, evolution, ordinary, inverse),
    *(networks, own_functions, own_training, regression),
)


def _models(family: ModuleType) -> dict[str, Callable[[], Any]]:
    """The models of a family, by name: its public functions without arguments."""
    return {make.__name__: make for make in family.MODELS}


MODELS: dict[str, Callable[[], Any]] = {
    name: make for family in FAMILIES for name, make in _models(family).items()
}
assert len(MODELS) == sum(len(family.MODELS) for family in FAMILIES), "two models of one name"


@functools.cache
def model_of(name: str, dtype: str = "float64") -> Any:
    """The trained model of a name; made once, always with the same random numbers."""
    with default_float(dtype):
        dde.config.set_random_seed(3)
        return MODELS[name]()
