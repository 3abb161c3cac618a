"""Scores do not depend on what the caller's thread has set, nor on what other threads ask."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from corpus import model_of
from corpus.common import default_float

import pinnfluence
from pinnfluence import Influence

pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = ("burgers", "autograd_equation", "plain PyTorch")


def slope(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(y.sum(), x, create_graph=True)[0]


def plain(dtype: torch.dtype = torch.float64) -> Any:
    network = torch.nn.Sequential(torch.nn.Linear(1, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1))
    network = network.double()
    x = torch.linspace(0, 1, 12)[:, None]
    return lambda: pinnfluence.torch_model(
        network,
        {"pde": (x, lambda network, x: slope(network(x), x) - network(x) ** 2)},
        dtype=dtype,
    )


def scores_of(kind: str) -> Callable[[], np.ndarray]:
    """Scores of a model at two points; a new ``Influence`` each time, of the same model."""
    if kind == "plain PyTorch":
        torch.manual_seed(0)
        read, x = plain(), np.array([[0.3], [0.7]])
    else:
        model = model_of(kind)
        read, x = lambda: model, model.data.train_x[:2] + 1e-3
    return lambda: (
        Influence(read(), recipe="gauss-newton", damping=1e-3, batch_size=5).scores(x, 0).values
    )


CALLERS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_callers_modes_do_not_matter(kind: str, caller: str) -> None:
    with default_float():
        ask = scores_of(kind)
        expected = ask()
        with CALLERS[caller]():
            found = ask()
            assert torch.is_inference_mode_enabled() == (caller == "inference_mode")
    np.testing.assert_allclose(found, expected, atol=1e-12 * abs(expected).max())


def test_autocast_takes_no_digits_of_float32() -> None:
    torch.manual_seed(0)
    read, x = plain(torch.float32), np.array([[0.3], [0.7]])
    expected = Influence(read(), recipe="gauss-newton", damping=1e-3).scores(x, 0).values
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Influence(read(), recipe="gauss-newton", damping=1e-3).scores(x, 0).values
    np.testing.assert_allclose(found, expected, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
def test_threads_that_ask_at_once_get_what_one_gets(kind: str) -> None:
    """DeepXDE's derivatives, and the user's network with its parameters, are there only once."""
    found: list[np.ndarray] = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)  # threads change often
    try:
        with default_float():
            ask = scores_of(kind)
            expected = ask()
            threads = [threading.Thread(target=lambda: found.append(ask())) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len(found) == 3
    for scores in found:
        np.testing.assert_allclose(scores, expected, atol=1e-9 * abs(expected).max())


def test_a_fitted_influence_answers_inside_inference_mode() -> None:
    with default_float():
        model = model_of("burgers")
        influence, x = Influence(model, recipe="gauss-newton", damping=1e-3), np.full((1, 2), 0.3)
        expected = influence.scores(x, 0).values
        with torch.inference_mode():
            np.testing.assert_allclose(influence.scores(x, 0).values, expected, rtol=1e-9)
            report = pinnfluence.diagnose(model, fresh=60)
            assert np.isfinite(report.error(x)["u"]).all()
            found = influence.candidates(x + 0.1 * np.arange(3)[:, None], 0, at=x)
            assert np.isfinite(found.changes).all()
            assert len(found.select(1).points) == 1
