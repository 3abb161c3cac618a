"""Models of DeepXDE with measurements: functions that need points, and the error they leave."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from corpus.common import UNIT, boundary, dde, default_float, fnn, hessian, trained, zero
from torch import Tensor

import pinnfluence
from pinnfluence import InputError
from pinnfluence.diagnosis.fresh import draw
from pinnfluence.loss.loss import Loss

MEASURED = np.linspace(0.1, 0.9, 7)[:, None]
ENDS = dde.icbc.DirichletBC(UNIT, zero, boundary)


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    with default_float(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def squares(x: np.ndarray) -> np.ndarray:
    """A function that NumPy cannot evaluate at no points."""
    return np.asarray(np.vectorize(lambda a: a**2)(x))


class Own(dde.icbc.BC):
    def error(self, X: Any, inputs: Any, outputs: Any, beg: int, end: int, aux: Any = None) -> Any:
        return outputs[beg:end] - torch.as_tensor(squares(X[beg:end]))


CONDITIONS: dict[str, Callable[[], Any]] = {
    "dirichlet": lambda: dde.icbc.DirichletBC(UNIT, squares, boundary),
    "neumann": lambda: dde.icbc.NeumannBC(UNIT, squares, boundary),
    "operator": lambda: dde.icbc.OperatorBC(
        UNIT, lambda x, y, X: y - torch.as_tensor(squares(X)), boundary
    ),
    "own": lambda: Own(UNIT, boundary, 0),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_is_not_asked_at_no_points(name: str) -> None:
    pde = lambda x, y: hessian(y, x) + y  # noqa: E731
    model = trained(dde.data.PDE(UNIT, pde, CONDITIONS[name](), 8, 2), fnn(1, 5, 1))
    influence = pinnfluence.Influence(model, recipe="gauss-newton", damping=1e-3, batch_size=3)
    inside = np.array([[0.31], [0.7]])
    assert np.isfinite(influence.scores(inside, "u").values).all()
    assert np.isfinite(influence.candidates(inside, "u", at=inside).changes).all()


def inverse_problem() -> tuple[Any, Any]:
    """``k u_xx = -pi^2 sin(pi x)`` with the unknown k = 2, from values of u = sin(pi x) / 2."""
    k = dde.Variable(1.0)

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return k * hessian(y, x) + np.pi**2 * torch.sin(np.pi * x)

    values = dde.icbc.PointSetBC(MEASURED, np.sin(np.pi * MEASURED) / 2)
    data = dde.data.PDE(UNIT, pde, [ENDS, values], 10, 2)
    dde.config.set_random_seed(0)
    model = trained(data, fnn(1, 12, 1), external_trainable_variables=k)
    dde.optimizers.set_LBFGS_options(maxiter=80)
    with contextlib.redirect_stdout(io.StringIO()):
        model.compile("L-BFGS", external_trainable_variables=k)
        model.train(display_every=10**6, verbose=0)
    dde.optimizers.set_LBFGS_options()
    return model, k


def test_the_error_of_an_inverse_problem_is_that_of_its_solution() -> None:
    model, k = inverse_problem()
    report = pinnfluence.diagnose(model, fresh=60)
    x = np.linspace(0, 1, 50)[:, None]
    true = np.sin(np.pi * x[:, 0]) / 2 - model.predict(x)[:, 0]
    assert np.linalg.norm(report.error(x)["u"] - true) < 0.05 * np.linalg.norm(true)
    wrong = 2 - float(k.detach())
    assert report.estimate.best.step[-1] == pytest.approx(wrong, rel=0.05)
    assert report.candidates.shape[1] == 1
    assert not np.isin(report.candidates, model.data.train_x.astype(np.float32)).any()


def test_measurements_that_a_sampler_hits_by_chance_are_kept_whole() -> None:
    pde = lambda x, y: hessian(y, x) + y  # noqa: E731
    values = dde.icbc.PointSetBC(MEASURED, MEASURED)
    pinn = pinnfluence.from_deepxde(
        trained(dde.data.PDE(UNIT, pde, [ENDS, values], 8, 2), fnn(1, 5, 1))
    )
    training = pinn.at(pinn.training_points)
    pool = np.concatenate([np.linspace(0, 1, 200)[:, None], MEASURED[:1]]).astype(np.float32)
    pool = np.concatenate([pool, np.tile(pool[:1], (20, 1))])
    drawn = draw(pinn, lambda n, seed: pool, 100, 0)
    assert drawn.n_pool["pointset"] == 1
    assert drawn.undrawn(training) == [2]
    kept = drawn.with_trained(training, [2])
    at = kept.collocation.points
    np.testing.assert_allclose(at.x[at.rows[2]], MEASURED, atol=1e-7)
    assert kept.n_pool["pointset"] == len(MEASURED)
    assert kept.loss.term_losses()["pointset"] == pytest.approx(
        Loss.of_training(training).term_sums(99)["pointset"]
    )


def test_fresh_points_of_ones_own_keep_those_of_measurements() -> None:
    X = torch.as_tensor(np.random.default_rng(0).random((12, 1)))
    W = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    network.double()

    def pde(net: Any, x: Tensor) -> Tensor:
        slope = torch.autograd.grad(net(x).sum(), x, create_graph=True)[0]
        return slope - torch.cos(x)

    def at(x: Tensor) -> Any:
        terms = {"pde": (x, pde), "ends": (W, lambda net, x: net(x) - torch.sin(x))}
        return pinnfluence.torch_model(network, terms)

    model, fresh = at(X), at(torch.as_tensor(np.random.default_rng(1).random((60, 1))))
    x = np.linspace(0, 1, 50)[:, None]
    with torch.no_grad():
        true = np.sin(x[:, 0]) - network(torch.as_tensor(x)).numpy()[:, 0]
    error = pinnfluence.diagnose(model, fresh_x=fresh).error(x)["u"]
    assert np.linalg.norm(error - true) < 0.05 * np.linalg.norm(true)
    with pytest.raises(InputError, match="14 that were trained on, of loss terms pde, ends"):
        pinnfluence.diagnose(model, fresh_x=at(X))
