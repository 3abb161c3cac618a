"""Slower methods are named once, by a warning that names the equation and the reason."""

import warnings
from typing import Any
from weakref import WeakKeyDictionary

import corpus
import pytest
import torch
from deepxde_problems import fnn, hessian, jacobian, model_of, on_interval
from torch import Tensor

from pinnfluence import Influence
from pinnfluence.curvature.recipe import recipe_of
from pinnfluence.models.deepxde.reader import from_deepxde
from pinnfluence.runtime import warn_once

DAMPED = recipe_of("gauss-newton", damping=0.1)
STREAMS = (
    "slower method, same scores: derivatives of the network by nested forward differentiation, "
    "not by streams: "
)


def told(model: Any) -> list[str]:
    """Warnings of all that a user may ask for, with each warning shown."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("ignore")  # torch's own
        warnings.simplefilter("always", UserWarning)
        influence = Influence(model, recipe=DAMPED, batch_size=4)
        x = influence.train_x[:5]
        for _ in range(2):
            influence.influence(x)
            influence.scores(x, "all")
    assert {w.filename for w in found} <= {__file__}  # the user's line, not one of the package
    assert all("\n" not in str(w.message) for w in found)
    return [str(w.message) for w in found]


@pytest.mark.parametrize(
    "name", ["dirichlet", "neumann", "pointset", "lorenz", "robin", "conservative"]
)
def test_fast_ways_are_silent(name: str) -> None:
    assert [m for m in told(model_of(name)) if "slower method" in m] == []


def test_equations_that_call_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warn_once, "_shown", WeakKeyDictionary())  # of other tests, too
    found = [m for m in told(corpus.model_of("autograd_equation")) if "restored" not in m]
    assert len(found) == 1
    assert found[0].startswith(
        "slower method, same scores: residual is differentiated by backward passes"
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("output_transform", "it has an output transform"),
        ("parallel", "it is a PFNN, not an FNN"),
        ("own_module", "it is a Residual, not an FNN"),
    ],
)
def test_networks_without_streams(name: str, reason: str) -> None:
    assert told(model_of(name)).count(STREAMS + reason) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda net: setattr(net, "activation", torch.relu), "its activation is not one of gelu, "),
        (
            lambda net: net.apply_feature_transform(torch.sin),
            "its input transform is more than a division of each input",
        ),
    ],
)
def test_reasons(change: Any, reason: str) -> None:
    net = fnn(1, 4, 4, 1)
    change(net)
    with pytest.warns(UserWarning, match=STREAMS + reason):
        from_deepxde(on_interval([], net=net))


def test_derivatives_above_the_fourth_order_name_their_equation() -> None:
    def pde(x: Tensor, y: Tensor) -> list[Tensor]:
        return [hessian(y, x), jacobian(hessian(hessian(y, x), x), x)]

    with pytest.warns(UserWarning, match="residual_1, residual_2 has derivatives of order 5, abo"):
        from_deepxde(on_interval([], pde))


def test_equations_that_call_numpy() -> None:
    """On a network without streams, gradients are taken by double backward."""
    found = told(model_of("own_module"))
    start = (
        "slower method, same scores: gradients of operator by double backward: torch.func refuses"
    )
    assert sum(m.startswith(start) for m in found) == 1, found


def test_each_network_is_told_of() -> None:
    class Subject:
        pass

    first, second = Subject(), Subject()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for subject in (first, first, second, first):
            warn_once.warn_once(subject, "slower method, same scores: a")
        warn_once.warn_once(first, "slower method, same scores: b")
    assert [str(w.message)[-1] for w in found] == ["a", "a", "b"]
