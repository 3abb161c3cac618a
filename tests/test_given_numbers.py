"""What a caller hands over as numbers: taken as it is, or refused in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import pinnfluence
from pinnfluence import Influence, InputError

X = np.array([[0.3], [0.7]])


@pytest.fixture(scope="module")
def influence() -> Influence:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    x = torch.linspace(0, 1, 9)[:, None]
    model = pinnfluence.torch_model(network, {"data": (x, lambda network, x: network(x) - x)})
    return Influence(model, recipe="gauss-newton", damping=1e-3)


def with_batches_of(influence: Any, size: Any) -> Any:
    return Influence(influence.pinn, batch_size=size)


def diagnosis(influence: Any, fresh_x: Any) -> Any:
    return pinnfluence.diagnose(influence.pinn, fresh_x=fresh_x)


@pytest.mark.parametrize(
    ("points", "digits"),
    [
        (X.tolist(), 0),
        (X.astype(np.longdouble), 0),
        (torch.tensor(X).to_sparse(), 0),
        (torch.tensor(X).to(torch.bfloat16), 1e-2),
        (np.asfortranarray(X)[::-1][::-1], 0),
    ],
)
def test_points_are_read_whatever_holds_them(influence: Any, points: Any, digits: float) -> None:
    expected = influence.scores(X, 0).values
    found = influence.scores(points, np.int64(0)).values
    np.testing.assert_allclose(found, expected, atol=digits * abs(expected).max())


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda i: i.scores([[1], [1, 2]], 0), "expected an array, found list"),
        (lambda i: i.scores(X, 0, weights=["a", "b"]), "weights that are real numbers"),
        (lambda i: i.scores(X, 0, weights=np.ones(2) * 1j), "weights that are real numbers"),
        (lambda i: i.scores(X, 0, weights=np.ma.array([1, 2], mask=[False, True])), "masked"),
        (lambda i: i.scores(X, lambda f: f.u * float("nan")), "NaN or infinite at 2 of 2"),
        (lambda i: i.scores(X, ["u"]), "no quantity"),
        (lambda i: with_batches_of(i, 1.5), "found 1.5"),
        (lambda i: with_batches_of(i, "3"), "found '3'"),
        (lambda i: diagnosis(i, "abc"), "expected fresh points of shape"),
        (lambda i: diagnosis(i, [[1], [1, 2]]), "found list"),
    ],
)
def test_what_is_no_number_is_refused(influence: Any, ask: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as refusal:
        ask(influence)
    assert "\n" not in str(refusal.value)


def test_weights_may_be_a_tensor(influence: Any) -> None:
    expected = influence.scores(X, 0, weights=np.ones(2)).values
    assert (influence.scores(X, 0, weights=torch.ones(2)).values == expected).all()


def test_a_model_that_predicts_nothing_by_name_is_refused() -> None:
    networks = [torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)]
    x = torch.linspace(0, 1, 9)[:, None]
    terms = {"data": (x, lambda networks, x: networks[0](x) - networks[1](x) ** 2)}
    model = pinnfluence.torch_model(networks, terms)
    with pytest.raises(InputError, match="predicts nothing by name"):
        Influence(model, recipe="gauss-newton", damping=1e-3).influence(X)
