"""The training loss as one function, eager and compiled."""

import shutil

import numpy as np
import pytest
import torch
from brute_force import TERMS, flow_masks, flow_residuals

from pinnfluence import MLP, Equation, InputError, Pinn
from pinnfluence.training import loss_step
from pinnfluence.training.loss_step import choose, compiled

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def case(flow_pinn, flow_points):
    pinn, x = flow_pinn(), flow_points(20)
    return pinn, x, loss_step.loss_step(pinn.at(x), torch.float64, CPU)


def assert_same(found, expected, rtol: float) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=rtol, atol=0)
    assert list(found[1]) == list(expected[1])
    for name, gradient in expected[1].items():
        assert (found[1][name] - gradient).abs().max() <= rtol * gradient.abs().max(), name


def test_losses_and_gradients(case):
    """L_k is the mean of r_k^2 over the points on which it acts; the gradient is of their sum."""
    pinn, x, step = case
    points = torch.as_tensor(x).double().requires_grad_()
    residuals, masks = flow_residuals(pinn.network(points), points), flow_masks(points)
    losses = torch.stack([residuals[n][masks[n]].square().mean() for n in TERMS])
    params = dict(pinn.network.named_parameters())
    gradients = torch.autograd.grad(losses.sum(), list(params.values()))
    expected = losses.detach(), dict(zip(params, gradients, strict=True))
    assert_same(step(pinn.params), expected, 1e-10)


def test_step_follows_the_parameters(case):
    pinn, x, step = case
    doubled = {name: 2 * p for name, p in pinn.params.items()}
    residuals = pinn.at(x).residuals(doubled)
    expected = torch.stack([r.square().mean() for r in residuals.values()])
    torch.testing.assert_close(step(doubled)[0], expected)


def test_points_take_the_dtype_of_the_step(flow_pinn, flow_points):
    pinn, x = flow_pinn(dtype=torch.float32), flow_points(20)
    losses, gradients = loss_step.loss_step(pinn.at(x), torch.float32, CPU)(pinn.params)
    assert {losses.dtype, *(g.dtype for g in gradients.values())} == {torch.float32}


@pytest.mark.slow
def test_compiled_is_eager_for_the_flow(flow_pinn, flow_points):
    check_compiled(flow_pinn(), flow_points(20), 1e-10)


def test_compiled_is_eager():
    """Of one equation: each line of the flow takes the compiler seconds."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MLP((1, 4, 1), "tanh")
    pinn = Pinn(network, ("x",), ("u",), (Equation(lambda f: {"ode": f.u_x - f.u}),))
    check_compiled(pinn, np.random.default_rng(0).random((20, 1), np.float32), 1e-4)


def check_compiled(pinn, x, rtol):
    step = loss_step.loss_step(pinn.at(x), next(iter(pinn.params.values())).dtype, CPU)
    found = compiled(step, pinn.params)
    for scale in (1.0, 1.3):
        params = {name: scale * p for name, p in pinn.params.items()}
        assert_same(found(params), step(params), rtol)


# ---- the choice between them


def fail(*_):
    raise RuntimeError("no\n compiler " + 300 * "x")


def test_off(case):
    pinn, _, step = case
    assert choose(step, pinn.params, "off", 10**6) == (step, "eager steps, as asked")


def test_auto_for_a_few_steps(case):
    pinn, _, step = case
    found, why = choose(step, pinn.params, "auto", 999)
    assert found is step
    assert why == "eager steps: compiling does not pay for 999 steps"


def test_auto_without_a_compiler(case, monkeypatch):
    pinn, _, step = case
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found, why = choose(step, pinn.params, "auto", 10**6)
    assert found is step
    assert why == "eager steps: no C++ compiler was found"


def test_auto_where_compiling_fails(case, monkeypatch):
    pinn, _, step = case
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(loss_step, "compiled", fail)
    found, why = choose(step, pinn.params, "auto", 1000)
    assert found is step
    assert why.startswith("eager steps: compiling failed (no compiler xxx")
    assert len(why) < 200


def test_on_where_compiling_fails(case, monkeypatch):
    pinn, _, step = case
    monkeypatch.setattr(loss_step, "compiled", fail)
    with pytest.raises(InputError, match=r"--compile on: compiling failed .* use --compile off"):
        choose(step, pinn.params, "on", 1)


@pytest.mark.parametrize(("mode", "n_steps"), [("on", 1), ("auto", 1000)])
def test_compiling_where_it_is_asked_or_pays(case, monkeypatch, mode, n_steps):
    pinn, _, step = case
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(loss_step, "compiled", lambda step, params: np.sum)
    assert choose(step, pinn.params, mode, n_steps) == (np.sum, "compiled steps")


def test_unknown_mode(case):
    pinn, _, step = case
    with pytest.raises(InputError, match="unknown mode 'maybe' of --compile, expected one of auto"):
        choose(step, pinn.params, "maybe", 1)
