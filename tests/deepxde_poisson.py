"""A small problem in DeepXDE, and that it is refused."""

from typing import Any

import pytest
from deepxde_problems import EVERYWHERE, INTERVAL, on_interval, poisson, square

from pinnfluence import Influence, InputError
from pinnfluence.models.deepxde.model import dde


def refused(model: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        Influence(model)
    assert "\n" not in str(error.value)


def dirichlet() -> Any:
    return dde.icbc.DirichletBC(INTERVAL, square, EVERYWHERE)


def model(pde: Any = poisson, net: Any = None, **settings: Any) -> Any:
    return on_interval([dirichlet()], pde, net, **settings)
