"""Levenberg-Marquardt for models of DeepXDE: equal to that of train.py, far below Adam."""

import copy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import ROOT
from test_sampler_callback import Seen, heat_model

import pinnfluence
from pinnfluence import InputError
from pinnfluence.loss.loss import Loss
from pinnfluence.models.deepxde.model import build, dde
from pinnfluence.optimizers import LevenbergMarquardt
from pinnfluence.problems.heat import PROBLEM
from pinnfluence.training.levenberg_marquardt import LevenbergMarquardt as Ours


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    before = dde.config.real(np)
    dde.config.set_default_float("float64")
    yield
    dde.config.set_default_float(np.dtype(before).name)
    torch.set_default_dtype(torch.float32)


def theta_of(net: torch.nn.Module) -> np.ndarray:
    return torch.cat([p.detach().flatten() for p in net.parameters()]).numpy()


def test_it_makes_the_steps_of_train_py() -> None:
    sizes = {"num_domain": 30, "num_boundary": 10, "num_initial": 10}
    problem = PROBLEM.changed(layers=(2, 6, 1), loss_weights={"boundary": 3.0}, **sizes)
    model = build(problem, "dirichlet", seed=1)
    model.compile("adam", lr=1e-3, loss_weights=[1, 3, 1], verbose=0)
    network = copy.deepcopy(model.net).double()
    ours = Ours(Loss.of_training(replace(model.pinn, network=network).at(model.train_x)))
    history, state = LevenbergMarquardt(model).train(12, display_every=4, verbose=0)
    for _ in range(12):
        assert ours.step()
    np.testing.assert_array_equal(theta_of(model.net), theta_of(network).astype(np.float32))
    assert history.steps == [0, 4, 8, 12]
    assert (state.step, state.iteration) == (12, 12)
    assert float(np.sum(history.loss_train[-1])) == pytest.approx(
        0.5 * float(ours._residuals().square().sum()), rel=1e-3
    )


def test_it_lowers_the_loss_of_a_stock_model_far_below_adam() -> None:
    losses = {}
    for name in ("adam", "lm"):
        model = heat_model(width=10)
        train = model.train if name == "adam" else LevenbergMarquardt(model).train
        history, _ = train(400 if name == "adam" else 40, display_every=400, verbose=0)
        assert history is model.losshistory
        losses[name] = float(np.sum(history.loss_train[-1]))
    assert losses["lm"] < 1e-2 * losses["adam"]


def test_a_model_that_goes_through_its_points_is_read() -> None:
    """All that is left of its loss is rounding, of which two evaluations have different ones."""
    domain = dde.geometry.Interval(0, 1)
    ends = dde.icbc.DirichletBC(domain, lambda x: 0, lambda x, on: on)
    data = dde.data.PDE(domain, lambda x, u: dde.grad.hessian(u, x) + 1, ends, 4, 2)
    model = dde.Model(data, dde.nn.FNN([1, 10, 1], "tanh", "Glorot normal"))
    model.compile("adam", lr=1e-3, verbose=0)
    LevenbergMarquardt(model).train(60, display_every=60, verbose=0)
    assert float(np.sum(model.losshistory.loss_train[-1])) < 1e-22
    pinn = pinnfluence.from_deepxde(model)
    assert len(pinn.terms) == 2


def test_callbacks_and_other_points() -> None:
    model, seen = heat_model(), Seen()
    sampler = pinnfluence.PointSampler("rard", every=4, n=3, n_candidates=100)
    optimizer = LevenbergMarquardt(model)
    stop = dde.callbacks.Timer(1e9)
    history, _ = optimizer.train(10, display_every=1, callbacks=[sampler, seen, stop], verbose=0)
    assert [len(points) for points in seen.points[::4]] == [50, 53, 56]
    assert optimizer._algorithm is not None
    trained_on = {tuple(p) for p in optimizer._algorithm.loss.collocation.x.tolist()}
    assert trained_on == {tuple(p) for p in model.data.train_x_all.tolist()}
    losses = [float(np.sum(loss)) for loss in history.loss_train]
    falls = np.diff(losses) < 0
    assert falls[[n for n in range(10) if n not in (4, 8)]].all()  # there, the points changed
    pinn = pinnfluence.from_deepxde(model)
    np.testing.assert_allclose(theta_of(pinn.network), theta_of(model.net), rtol=1e-15)
    assert optimizer.damping != 1e-2


def test_it_ends_where_no_step_lowers_the_loss() -> None:
    model = heat_model(width=2, num_domain=1, num_boundary=1, num_initial=1)
    optimizer = LevenbergMarquardt(model)
    history, state = optimizer.train(2000, display_every=3000, verbose=0)
    assert optimizer.ended == "no step reduces the loss"
    assert state.step < 2000
    assert history.steps == [0, state.step]
    before, ended = theta_of(model.net), state.step
    optimizer.train(5, display_every=1, verbose=0)
    assert history.steps == [0, ended, ended]  # its start; its end once
    np.testing.assert_array_equal(theta_of(model.net), before)
    assert state.step == ended
    model.compile("adam", lr=1e-3, verbose=0)
    model.train(iterations=2, verbose=0)  # DeepXDE's own step is back
    assert not np.array_equal(theta_of(model.net), before)


def test_unknowns_are_found_and_frozen_layers_stay() -> None:
    """u = exp(-k x) with u(0) = 1 and a measurement at x = 1, from which k follows."""
    k = dde.Variable(0.5)
    rod = dde.geometry.Interval(0, 1)
    data = dde.data.PDE(
        rod,
        lambda x, y: dde.grad.jacobian(y, x) + k * y,
        [dde.icbc.PointSetBC(np.array([[0.0], [1.0]]), np.exp(-2 * np.array([[0.0], [1.0]])))],
        num_domain=20,
        num_boundary=2,
    )
    dde.config.set_random_seed(1)
    model = dde.Model(data, dde.nn.FNN([1, 8, 8, 1], "tanh", "Glorot uniform"))
    model.net.linears[0].requires_grad_(False)
    frozen = model.net.linears[0].weight.detach().clone()
    trainable = [p for p in model.net.parameters() if p.requires_grad]
    adam = torch.optim.Adam([*trainable, k], lr=1e-3)
    model.compile(adam, verbose=0, external_trainable_variables=[k])
    with pytest.warns(UserWarning, match="the others count as constants"):
        LevenbergMarquardt(model).train(60, verbose=0)
    assert float(k.detach()) == pytest.approx(2, abs=1e-3)
    torch.testing.assert_close(model.net.linears[0].weight, frozen, rtol=0, atol=0)


def test_what_it_cannot_minimise_is_refused() -> None:
    model = heat_model()
    model.compile("adam", lr=1e-3, loss=lambda y, f: torch.log(torch.cosh(f - y)).sum(), verbose=0)
    with pytest.raises(InputError, match="expected a loss of squares"):
        LevenbergMarquardt(model).train(3, verbose=0)
    model = heat_model()
    model.net.regularizer = ("l2", 1e-4)
    model.compile("adam", lr=1e-3, verbose=0)
    with pytest.raises(InputError, match="weight decay is no square"):
        LevenbergMarquardt(model).train(3, verbose=0)
    model.opt_name, own = "adam", model.train_step
    assert model.train_step is own
    with pytest.raises(InputError, match="expected a damping above 0"):
        LevenbergMarquardt(model, damping=0.0)
    plain = dde.Model(model.data, model.net)
    with pytest.raises(InputError, match="never compiled"):
        LevenbergMarquardt(plain).train(3)


def test_the_names_are_public_and_their_import_is_lazy() -> None:
    code = (
        "import sys, pinnfluence\n"
        "assert not {'torch', 'deepxde'} & set(sys.modules)\n"
        "assert pinnfluence.optimizers.LevenbergMarquardt.__name__ == 'LevenbergMarquardt'\n"
        "assert pinnfluence.InfluenceSampler(every=3).log == []\n"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")
